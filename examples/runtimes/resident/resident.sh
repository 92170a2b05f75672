#!/usr/bin/env bash
# A resident command in bash: it stays, gets turns as lines on stdin, and answers on stdout.
#
#     cg worker loop --profile cg-demo/worker-1 --resident --command bash examples/runtimes/resident/resident.sh
#
# Input: {"task": "count", "steps": 5}. Other tasks end in other ways: "approve" (suspend), "later" (hand back),
# anything else (fail). It reads JSON with patterns, so that it needs only bash; use jq if you have it.
set -euo pipefail

main() {
    while IFS= read -r given; do
        id=$(number_in "$given" id)
        stop_file=$(text_in "$given" stop_file)
        checkpoint_file=$(text_in "$given" checkpoint_file)
        input=$given
        if [[ ${given:0:4096} == *'"input_file":'* ]]; then input=$(<"$(text_in "$given" input_file)"); fi
        case "$(text_in "$input" task)" in
            count) count_to "$(number_in "$input" steps)" ;;
            approve) answer suspend '{"reason": "waiting_for_approval", "note": "say yes, then resume the turn"}' ;;
            later) come_back_later ;;
            *) fail "unknown_task" "this runtime knows count, approve and later" ;;
        esac
    done
}

count_to() { # counts, starting where an earlier attempt stopped
    local steps=$1 first step
    first=$(cat "$checkpoint_file" 2>/dev/null || echo 0)
    for ((step = first; step < steps; step++)); do
        if [[ -e $stop_file ]]; then break; fi
        sleep 0.1
        save_checkpoint $((step + 1))
        answer progress "{\"step\": $((step + 1)), \"of\": $steps}"
    done
    if must_hand_back; then
        answer hand_back '{}'
        return
    fi
    local agent
    agent=$(text_in "$given" agent_id)
    answer final "{\"counted\": $step, \"from\": $first, \"records\": $(record_count), \"agent\": \"$agent\"}"
}

come_back_later() { # hands back on the first attempt, succeeds on the next one
    if [[ -e $checkpoint_file ]]; then
        answer final '{"tried_again": true}'
    else
        save_checkpoint 1
        answer hand_back '{}'
    fi
}

# One line for the turn. Only these lines go to stdout; everything else goes to stderr.
answer() { printf '{"id": %s, "%s": %s}\n' "$id" "$1" "$2"; }

fail() {
    echo "$1: $2" >&2
    answer failure "{\"error\": \"$1\", \"message\": \"$2\"}"
}

save_checkpoint() { # complete or not at all, even if the process is killed
    printf '%s\n' "$1" > "$checkpoint_file.new"
    mv "$checkpoint_file.new" "$checkpoint_file"
}

must_hand_back() { # the worker shuts down: another one goes on
    [[ -e $stop_file && $(<"$stop_file") =~ \"reason\":\ *\"shutdown\" ]]
}

# The first place counts: the turn's own fields stand before its input and its context.
text_in() { if [[ $1 =~ \"$2\":\ *\"([^\"]*)\" ]]; then echo "${BASH_REMATCH[1]}"; fi; }

number_in() { if [[ $1 =~ \"$2\":\ *([0-9]+) ]]; then echo "${BASH_REMATCH[1]}"; else echo 0; fi; }

record_count() { grep -o '"turn_seq"' <<< "$given" | wc -l | tr -d ' '; }

main
