# The shares of folded stacks that each part has, as a row of a table: awk -v name=NAME -f scripts/shares.awk FILE,
# or the table's head: awk -v header=1 -f scripts/shares.awk /dev/null
#
# A sample belongs to the call of the kernel that it is in; else to the allocator if it ends there; else to the
# innermost frame of a part that is named below.

BEGIN {
  parts = split("write|read|epoll|rest of the kernel|queue|WebSocket|HTTP|channel|fan-out|presence|allocator|rest", titles, "|")
  if (header) {
    print "| profile |" row(" %s |")
    print "| --- |" row(" --- |")
  }
}

function row(format,    i, cells) {
  for (i = 1; i <= parts; i++) cells = cells sprintf(format, titles[i])
  return cells
}

function part_of(stack,    frames, n, i, frame) {
  n = split(stack, frames, ";")
  if (stack ~ /;(__send|send|__GI___writev|writev)(;|$)/) return "write"
  if (stack ~ /;(__libc_recv|recv)(;|$)/) return "read"
  if (stack ~ /;epoll_(wait|ctl)(;|$)/) return "epoll"
  # A clock is read in a page of the kernel's, but without a call of it.
  if (frames[n] ~ /_\[k\]$/ && frames[n] !~ /^__vdso_/) return "rest of the kernel"
  if (frames[n] ~ /^(_int_|__libc_)?(malloc|free|realloc|memalign)|^cfree|^unlink_chunk|^sysmalloc|^systrim|^_mid_memalign/)
    return "allocator"
  for (i = n; i > 0; i--) {
    frame = frames[i]
    if (frame ~ /adsum_channels::outbound/) return "queue"
    if (frame ~ /adsum_channels::websocket|adsum_channels::serializer/) return "WebSocket"
    if (frame ~ /adsum_pubsub/) return "fan-out"
    if (frame ~ /adsum_tracker|adsum::/) return "presence"
    if (frame ~ /adsum_channels|rooms::/) return "channel"
    if (frame ~ /hyper|axum|http/) return "HTTP"
  }
  return "rest"
}

{
  count = $NF
  sub(/ [0-9]+$/, "")
  shares[part_of($0)] += count
  all += count
}

END {
  if (header) exit
  for (i = 1; i <= parts; i++) cells = cells sprintf(" %.0f %% |", 100 * shares[titles[i]] / all)
  print "| [" name "](profiles/" name ".svg) |" cells
}
