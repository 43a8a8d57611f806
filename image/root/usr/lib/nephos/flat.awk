# Turns YAML into lines "path<TAB>value": maps by key, lists by index, a block scalar as one line for each of its lines.
# It reads what machines write: block maps and lists, flow lists of scalars, quoted and plain scalars, "|" blocks.
# Not read: anchors, tags, flow maps, several documents, "\u" escapes. JSON on several lines is not read either.

function plain(s,    q) {
  sub(/^[ \t]+/, "", s)
  q = substr(s, 1, 1)
  if (q == "\"") {
    match(s, /^"([^"\\]|\\.)*"/)
    s = substr(s, 2, RLENGTH - 2)
    gsub(/\\"/, "\"", s)
    gsub(/\\\\/, "\\", s)
    return s
  }
  if (q == "'") {
    match(s, /^'([^']|'')*'/)
    s = substr(s, 2, RLENGTH - 2)
    gsub(/''/, "'", s)
    return s
  }
  sub(/[ \t]+#.*$/, "", s)
  sub(/[ \t]+$/, "", s)
  return s
}

function path(    i, p) {
  p = name[1]
  for (i = 2; i <= depth; i++) p = p "." name[i]
  return p
}

function push(column, label, is_item) {
  depth++
  at[depth] = column
  name[depth] = label
  item[depth] = is_item
}

function value(column, text,    parts, n, i) {
  if (text ~ /^[|>][-+0-9]*[ \t]*$/) { block = 1; block_at = depth ? at[depth] : -1; block_from = -1; block_path = path(); return }
  if (text ~ /^\[.*\]/) {
    sub(/^\[/, "", text)
    sub(/\][ \t]*(#.*)?$/, "", text)
    n = split(text, parts, ",")
    for (i = 1; i <= n; i++) if (parts[i] !~ /^[ \t]*$/) print path() "." (i - 1) "\t" plain(parts[i])
    return
  }
  if (text !~ /^[ \t]*(#.*)?$/) print path() "\t" plain(text)
}

{ sub(/\r$/, "") }

block {
  if ($0 ~ /^[ \t]*$/) { print block_path "\t"; next }
  match($0, /^ */)
  if (RLENGTH > block_at) {
    if (block_from < 0) block_from = RLENGTH
    print block_path "\t" substr($0, block_from + 1)
    next
  }
  block = 0
}

/^[ \t]*(#.*)?$/ || /^(---|\.\.\.)/ { next }

{
  match($0, /^ */)
  column = RLENGTH
  rest = substr($0, column + 1)
  is_item = rest ~ /^-( |$)/
  while (depth && (at[depth] > column || (at[depth] == column && (item[depth] || !is_item)))) depth--
  while (rest ~ /^-( |$)/) {
    list = path()
    key = list SUBSEP column
    push(column, count[key]++ + 0, 1)
    match(rest, /^- */)
    column += RLENGTH
    rest = substr(rest, RLENGTH + 1)
  }
  if (match(rest, /^("[^"]*"|'[^']*'|[^ "'\[{#:]([^:]|:[^ ])*):([ \t]|$)/)) {
    label = substr(rest, 1, RLENGTH)
    sub(/:[ \t]*$/, "", label)
    rest = substr(rest, RLENGTH + 1)
    sub(/^[ \t]+/, "", rest)
    push(column, plain(label), 0)
  }
  value(column, rest)
}
