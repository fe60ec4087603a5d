#!/usr/bin/env bash
# Counts the instructions that a message takes, and fails if they are more than those on record.
#
#     benches/instructions.sh            count, and compare with benches/instructions.txt
#     benches/instructions.sh --record   count, and put the figures on record
#
# A count, unlike a time, hardly depends on the machine or on what else runs there, so that a few percent show. It does
# depend on the compiler and on the C library, and knows nothing of memory, locks and system calls: for these there are
# times. `benches/instructions.rs` does the work, once for each of two numbers of messages; the difference, divided by
# the difference of the numbers, has nothing of the start in it.
#
# Needs valgrind, which it installs where it may (Debian, root).

set -euo pipefail
cd "$(dirname "$0")/.."

RECORD=benches/instructions.txt
MODES="plain keyed handles callback"
FEW=50000
MANY=150000
# Percent: more is a failure, so much less should be put on record.
MORE=5
LESS=10

case "${1:-}" in
    '' | --record) ;;
    *) echo "usage: benches/instructions.sh [--record]"; exit 2 ;;
esac

if ! command -v valgrind >/dev/null; then
    if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then
        echo "instructions are counted by valgrind: install it (Debian: valgrind)"
        exit 1
    fi
    apt-get update -q
    DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends valgrind
fi

compiler=$(rustc -vV | sed -n '1p; s/^host: /for /p' | paste -s -d ' ')
program=$(cargo build --release --bench instructions --message-format=json-render-diagnostics \
    | sed -n 's/.*"executable":"\([^"]*\)".*/\1/p' | tail -n 1)

# The instructions inside `measured` for messages of a mode, so many.
count() {
    local output collected
    if ! output=$(valgrind --tool=callgrind --callgrind-out-file=/dev/null --collect-atstart=no \
        --toggle-collect=instructions::measured "$program" "$1" "$2" 2>&1); then
        printf '%s\ninstructions: %s %s failed under valgrind\n' "$output" "$1" "$2" >&2
        return 1
    fi
    collected=$(sed -n 's/.*Collected : \([0-9]*\)$/\1/p' <<<"$output")
    if [ "${collected:-0}" = 0 ]; then
        echo "instructions: valgrind did not find the function instructions::measured" >&2
        return 1
    fi
    echo "$collected"
}

# Instructions per message of a mode.
per_message() {
    local few many
    few=$(count "$1" "$FEW")
    many=$(count "$1" "$MANY")
    echo $(((many - few) / (MANY - FEW)))
}

if [ "${1:-}" = --record ]; then
    figures=
    for mode in $MODES; do
        found=$(per_message "$mode")
        figures="$figures$mode $found"$'\n'
    done
    printf '%s\ncompiler %s\n%s' "# Instructions per message, as benches/instructions.sh --record found them." \
        "$compiler" "$figures" >"$RECORD"
    cat "$RECORD"
    exit
fi

above=
below=
printf '%-10s %24s %10s %8s\n' mode 'instructions per message' recorded limit
for mode in $MODES; do
    recorded=$(sed -n "s/^$mode //p" "$RECORD")
    [ -n "$recorded" ] || { echo "$RECORD has no figure for $mode: run benches/instructions.sh --record"; exit 1; }
    found=$(per_message "$mode")
    limit=$((recorded * (100 + MORE) / 100))
    printf '%-10s %24s %10s %8s\n' "$mode" "$found" "$recorded" "$limit"
    [ "$found" -le "$limit" ] || above="$above $mode"
    [ "$found" -ge $((recorded * (100 - LESS) / 100)) ] || below="$below $mode"
done

if [ -n "$below" ]; then
    echo "WARNING: at least $LESS % fewer instructions than recorded for:$below"
    echo "Run benches/instructions.sh --record, so that they stay so few."
fi
if [ -n "$above" ]; then
    echo "A message takes over $MORE % more instructions than recorded in $RECORD for:$above"
    on_record=$(sed -n 's/^compiler //p' "$RECORD")
    if [ "$compiler" = "$on_record" ]; then
        echo "Find out which change did it. If it is worth them, run benches/instructions.sh --record."
    else
        echo "Another compiler may be the cause: this is $compiler,"
        echo "on record is $on_record. Compare both on the commit of the record,"
        echo "and run benches/instructions.sh --record if it is."
    fi
    exit 1
fi
