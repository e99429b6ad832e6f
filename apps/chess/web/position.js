// A game as the server has told it, and what follows from that for the page. No rules of chess but how to draw a move.

/** The state of one game. It follows changes as long as none is missing. */
export class Game {
  constructor(game) {
    Object.assign(this, game);
    this.receivedAt = performance.now();
  }

  /** Takes a change. False if versions are missing before it. */
  apply(change) {
    if (change.version <= this.version) return true;
    if (change.version > this.version + 1) return false;
    const { move, ...rest } = change;
    // A change that is no move may name the last one, too.
    if (move && this.moves.length < change.ply) this.moves = [...this.moves, move];
    Object.assign(this, rest, { receivedAt: performance.now() });
    return true;
  }

  /** The time that a player has left now, in milliseconds. */
  left(color) {
    const { [`${color}_ms`]: told, running } = this.clocks;
    return Math.max(0, running === color ? told - (performance.now() - this.receivedAt) : told);
  }

  /** The squares of the last of so many moves. */
  lastSquares(ply = this.ply) {
    const move = this.moves[ply - 1];
    return move ? [move.uci.slice(0, 2), move.uci.slice(2, 4)] : [];
  }
}

/** What is captured of each colour (`{ white: ["p", ..] }`), and by how many pawns white is ahead. */
export function material(fen) {
  const full = { p: 8, n: 2, b: 2, r: 2, q: 1 };
  const worth = { p: 1, n: 3, b: 3, r: 5, q: 9, k: 0 };
  const counts = { white: {}, black: {} };
  let ahead = 0;
  for (const letter of fen.split(" ")[0].replace(/[\d/]/g, "")) {
    const kind = letter.toLowerCase();
    const color = letter === kind ? "black" : "white";
    counts[color][kind] = (counts[color][kind] ?? 0) + 1;
    ahead += color === "white" ? worth[kind] : -worth[kind];
  }
  const captured = { white: [], black: [] };
  for (const color of ["white", "black"]) {
    // A pawn that was promoted isn't captured, though it isn't there as a pawn any more.
    let promoted = Object.entries(full).reduce(
      (sum, [kind, n]) => sum + (kind === "p" ? 0 : Math.max(0, (counts[color][kind] ?? 0) - n)),
      0,
    );
    for (const [kind, n] of Object.entries(full)) {
      let missing = n - (counts[color][kind] ?? 0);
      if (kind === "p") {
        const standing = Math.min(promoted, Math.max(0, missing));
        missing -= standing;
        promoted -= standing;
      }
      for (let i = 0; i < missing; i += 1) captured[color].push(kind);
    }
  }
  return { captured, ahead };
}

/** The square of the king of a colour. */
export function kingOf(fen, color) {
  const squares = unpack(fen);
  const at = squares.indexOf(color === "white" ? "K" : "k");
  return at < 0 ? null : nameOfSquare(at);
}

/** The pieces of a position after a move that was found legal (`"e2e4"`, `"e7e8q"`), to be shown until it is confirmed. */
export function afterMove(fen, uci) {
  const squares = unpack(fen);
  const [from, to] = [indexOfSquare(uci.slice(0, 2)), indexOfSquare(uci.slice(2, 4))];
  const piece = squares[from];
  const files = (to % 8) - (from % 8);
  if (piece.toLowerCase() === "p" && files !== 0 && squares[to] === "") squares[Math.floor(from / 8) * 8 + (to % 8)] = "";
  if (piece.toLowerCase() === "k" && Math.abs(files) === 2) {
    const [rookFrom, rookTo] = files > 0 ? [from + 3, from + 1] : [from - 4, from - 1];
    squares[rookTo] = squares[rookFrom];
    squares[rookFrom] = "";
  }
  const promoted = uci[4] && (piece === "P" ? uci[4].toUpperCase() : uci[4]);
  squares[to] = promoted || piece;
  squares[from] = "";
  return pack(squares);
}

/** 64 letters from a8 to h1; an empty square is an empty text. */
function unpack(fen) {
  const expanded = fen.split(" ")[0].replace(/\//g, "").replace(/\d/g, (n) => " ".repeat(Number(n)));
  return [...expanded].map((letter) => letter.trim());
}

function pack(squares) {
  const ranks = [];
  for (let rank = 0; rank < 8; rank += 1) {
    const text = squares.slice(rank * 8, rank * 8 + 8).map((letter) => letter || " ").join("");
    ranks.push(text.replace(/ +/g, (empty) => String(empty.length)));
  }
  return ranks.join("/");
}

const indexOfSquare = (square) => (8 - Number(square[1])) * 8 + "abcdefgh".indexOf(square[0]);
const nameOfSquare = (index) => "abcdefgh"[index % 8] + (8 - Math.floor(index / 8));
