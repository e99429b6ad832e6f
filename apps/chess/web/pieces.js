// Chess pieces as pictures: avatars, and a board. The shapes are the <symbol>s of the page.

const SVG = "http://www.w3.org/2000/svg";

const PIECES = { k: "king", q: "queen", r: "rook", b: "bishop", n: "knight", p: "pawn" };
const AVATARS = ["knight", "bishop", "rook", "queen", "king", "pawn"];

/** The avatar of a user: the same id always gives the same piece in the same colour. */
export function avatar(userId) {
  const id = Number(userId);
  const picture = document.createElement("span");
  picture.className = "avatar";
  picture.setAttribute("aria-hidden", "true");
  // The golden angle: neighbouring ids get colours far apart.
  picture.style.setProperty("--hue", String(Math.round((id * 137.508) % 360)));
  picture.append(piece(AVATARS[(id * 7 + Math.floor(id / 6)) % AVATARS.length]));
  return picture;
}

/** Sets up a board from the first field of a FEN: "rnbqkbnr/pppppppp/8/...". */
export function drawBoard(board, fen) {
  const squares = [];
  fen.split("/").forEach((rank, y) => {
    let x = 0;
    for (const letter of rank) {
      if (letter >= "1" && letter <= "8") {
        x += Number(letter);
        continue;
      }
      const picture = piece(letter.toLowerCase());
      picture.classList.add(letter === letter.toLowerCase() ? "black" : "white");
      picture.style.gridArea = `${y + 1} / ${x + 1}`;
      squares.push(picture);
      x += 1;
    }
  });
  board.replaceChildren(...squares);
}

/** A piece by its letter in a FEN, or by its name. */
export function piece(kind) {
  const picture = document.createElementNS(SVG, "svg");
  const use = document.createElementNS(SVG, "use");
  use.setAttribute("href", `#${PIECES[kind] ?? kind}`);
  picture.append(use);
  return picture;
}
