#!/usr/bin/env bash
# The whole command contract in bash: counts to a number, step by step, and can be stopped, resumed and asked to wait.
#
#     cg worker loop --profile cg-demo/worker-1 --command bash examples/runtimes/runtime.sh
#
# Input: {"task": "count", "steps": 5}. Other tasks end in other ways: "approve" (suspend), "later" (hand back),
# anything else (fail). It reads JSON with patterns, so that it needs only bash; use jq if you have it.
set -euo pipefail

main() {
    case "$(text_of task)" in
        count) count_to "$(number_of steps)" ;;
        approve) suspend "waiting_for_approval" "say yes, then resume the turn" ;;
        later) come_back_later ;;
        *) fail "unknown_task" "this runtime knows count, approve and later" ;;
    esac
}

count_to() { # counts, starting where an earlier attempt stopped
    local steps=$1 first step
    first=$(cat "$CG_CHECKPOINT_FILE" 2>/dev/null || echo 0)
    for ((step = first; step < steps; step++)); do
        if [[ -e $CG_STOP_FILE ]]; then break; fi
        sleep 0.1
        save_checkpoint $((step + 1))
        record "{\"step\": $((step + 1)), \"of\": $steps}"
    done
    if must_hand_back; then exit 75; fi
    finish "{\"counted\": $step, \"from\": $first, \"records\": $(record_count), \"agent\": \"$CG_AGENT_ID\"}"
}

come_back_later() { # hands back on the first attempt, succeeds on the next one
    if [[ -e $CG_CHECKPOINT_FILE ]]; then
        finish '{"tried_again": true}'
    else
        save_checkpoint 1
        exit 75
    fi
}

finish() { printf '%s\n' "$1" > "$CG_FINAL_FILE"; }

suspend() { printf '{"reason": "%s", "note": "%s"}\n' "$1" "$2" > "$CG_SUSPEND_FILE"; }

fail() {
    printf '{"error": "%s", "message": "%s"}\n' "$1" "$2" > "$CG_FAILURE_FILE"
    echo "$1: $2" >&2
    exit 1
}

record() { printf '%s\n' "$1" >> "$CG_PROGRESS_FILE"; } # one line of JSON, one process record

save_checkpoint() { # complete or not at all, even if the process is killed
    printf '%s\n' "$1" > "$CG_CHECKPOINT_FILE.new"
    mv "$CG_CHECKPOINT_FILE.new" "$CG_CHECKPOINT_FILE"
}

must_hand_back() { # the worker shuts down: another one goes on
    [[ -e $CG_STOP_FILE && $(<"$CG_STOP_FILE") =~ \"reason\":\ *\"shutdown\" ]]
}

text_of() { if [[ $(<"$CG_INPUT_FILE") =~ \"$1\":\ *\"([^\"]*)\" ]]; then echo "${BASH_REMATCH[1]}"; fi; }

number_of() { if [[ $(<"$CG_INPUT_FILE") =~ \"$1\":\ *([0-9]+) ]]; then echo "${BASH_REMATCH[1]}"; else echo 0; fi; }

record_count() { grep -o '"turn_seq"' "$CG_CONTEXT_FILE" | wc -l | tr -d ' '; }

main
