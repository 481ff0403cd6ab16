#!/bin/bash
# The step of action.yml. Reads INPUT_…, writes GITHUB_OUTPUT and GITHUB_STEP_SUMMARY.
set -euo pipefail

reanchor() { node "$GITHUB_ACTION_PATH/dist/src/cli/main.js" "$@"; }

if [ -z "${REANCHOR_SIGNING_KEY:-}" ]; then unset REANCHOR_SIGNING_KEY; fi
private=$(mktemp -d)
trap 'rm -rf "$private"' EXIT
if [ -n "${INPUT_KUBECONFIG:-}" ]; then
  install -m 600 /dev/null "$private/kubeconfig"
  printf '%s' "$INPUT_KUBECONFIG" >"$private/kubeconfig"
  export KUBECONFIG=$private/kubeconfig
fi
unset INPUT_KUBECONFIG
options=("--repo=$INPUT_REPOSITORY")
if [ -n "${INPUT_ROTATION:-}" ]; then options+=("--rotation=$INPUT_ROTATION"); fi

summary() {
  # Indented: a name that holds a fence cannot end it.
  { printf '### reanchor %s\n\n' "$INPUT_COMMAND" && sed 's/^/    /'; } >>"$GITHUB_STEP_SUMMARY"
}

exit=0
case $INPUT_COMMAND in
  run)
    result=$private/result.json
    reanchor run --once --output json "${options[@]}" >"$result" || exit=$?
    node -e '
      const { readFileSync } = require("node:fs")
      const { result } = JSON.parse(readFileSync(process.argv[1], "utf8"))
      console.log(`outcome=${result.kind ?? "error"}`)
      console.log(`pull-request=${result.pullRequest?.number ?? ""}`)' "$result" >>"$GITHUB_OUTPUT"
    reanchor report "${options[@]}" --no-color 2>&1 | summary || true
    if [ -n "${INPUT_REPORT:-}" ]; then reanchor report "${options[@]}" "--html=$INPUT_REPORT" || true; fi
    ;;
  check)
    range=${INPUT_RANGE:-}
    if [ -z "$range" ]; then range=origin/${BASE_REF:-main}..HEAD; fi
    # An annotation at each changed file, then the same for people.
    reanchor check --output annotations "${options[@]}" -- "$range" || exit=$?
    reanchor check "${options[@]}" --no-color -- "$range" 2>&1 | summary || true
    ;;
  *)
    echo "::error::reanchor: command is run or check, not $(printf '%q' "$INPUT_COMMAND")"
    exit 2
    ;;
esac
echo "exit=$exit" >>"$GITHUB_OUTPUT"
# 3 is waiting: nothing is wrong.
if [ "$exit" -ne 3 ]; then exit "$exit"; fi
