#!/usr/bin/env bash
# Runs big_ssl on this machine, as one process or several, and again when it was stopped.
#
#   launch/local.sh [FLAGS] -- --config=configs/derm_simclr.py --workdir=runs/simclr …
#
#   --processes=N   that together are one job (default 1; JAX splits the work between them)
#   --restarts=N    runs the same command again when it ended with 75, 134 or 137 (default 20)
#   --crashes=N     and after any other code but 0, 2 and 3 (default 1)
#   --logs=DIR      one file a process; that of process 0 is shown too (default: WORKDIR/logs,
#                   or a new folder in /tmp where the workdir is remote)
#   --grace=TIME    to save, after a signal or when another process has ended (default 5m)
#   --python=PATH   default: .venv/bin/python beside this folder, else python3
#   --dry-run       prints the commands, runs nothing
#
# Ctrl-C and SIGTERM go to every process: they save and end, and this script ends with 75.
# Exit codes: 0 done; 2 wrong input; 3 diverged; 75 stopped after saving; others: a crash.
set -euo pipefail

HERE=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
# shellcheck source=launch/common.sh
source "$HERE/common.sh"

flag_processes=1 flag_logs='' flag_grace=5m flag_python='' flag_dry_run=''
read_flags 'processes restarts crashes logs grace python' 'dry-run' '' "$@"
need_numbers processes restarts crashes
((flag_processes > 0)) || wrong '--processes=0: at least one'
need_run
grace=$(seconds --grace "$flag_grace")

python=${flag_python:-${HERE%/*}/.venv/bin/python}
[[ -n $flag_python || -x $python ]] || python=python3
command=("$python" -m big_ssl.main "${run_arguments[@]}")

free_port() {
  "$python" -c 'import socket; s = socket.socket(); s.bind(("localhost", 0)); print(s.getsockname()[1])'
}

variables_of() { # NUMBER PORT
  ((flag_processes == 1)) ||
    echo "JAX_COORDINATOR_ADDRESS=localhost:$2 JAX_NUM_PROCESSES=$flag_processes JAX_PROCESS_ID=$1"
}

if [[ -n $flag_dry_run ]]; then
  for ((number = 0; number < flag_processes; number++)); do
    printf '%s %s\n' "$(variables_of "$number" PORT)" "$(quoted "${command[@]}")" | sed 's/^ //'
  done
  exit 0
fi
need_program "$python" 'make test makes .venv; or name one by --python=PATH'
export PYTHONPATH=${HERE%/*}${PYTHONPATH:+:$PYTHONPATH}

make_logs() {
  local argument
  logs=$flag_logs
  for argument in "${run_arguments[@]}"; do
    [[ -n $logs || $argument != --workdir=* || $argument == *://* ]] || logs=${argument#*=}/logs
  done
  [[ -n $logs ]] || logs=$(mktemp -d)
  mkdir -p "$logs" || wrong "--logs=$logs cannot be made"
}

processes=() codes=() reader='' stopping='' code=''

start() {
  local number port='' variables
  ((flag_processes == 1)) || port=$(free_port)
  processes=() codes=()
  set -m # each a process group of its own: Ctrl-C reaches it once, through this script
  for ((number = 0; number < flag_processes; number++)); do
    read -ra variables <<<"$(variables_of "$number" "$port")"
    : >"$logs/process$number.log"
    env "${variables[@]}" "${command[@]}" >>"$logs/process$number.log" 2>&1 </dev/null &
    processes+=($!)
  done
  # From standard input: then it polls, and reads once more when the process has ended.
  tail -n +1 -f --pid="${processes[0]}" --sleep-interval=0.2 <"$logs/process0.log" &
  reader=$!
  set +m
}

send() { # SIGNAL to every process and what it started
  local process
  for process in "${processes[@]}"; do
    kill "-$1" -- "-$process" 2>/dev/null || true
  done
}

# shellcheck disable=SC2329 # the trap calls it
stop() {
  if [[ -n $stopping ]]; then
    say 'killed' && send KILL
  else
    stopping=$SECONDS
    say 'asked the run to save and end; once more kills it'
    send TERM
  fi
}

# Notes the codes of processes that have ended; whether all have.
all_ended() {
  local number process code_of
  for number in "${!processes[@]}"; do
    process=${processes[number]}
    if [[ -z ${codes[number]:-} ]] && ! kill -0 "$process" 2>/dev/null; then
      code_of=0
      wait "$process" || code_of=$?
      codes[number]=$code_of
      ((code_of == 0)) || failed=${failed:-$SECONDS}
    fi
  done
  ((${#codes[@]} == ${#processes[@]}))
}

# Sets code. Those that outlive a signal, or one that failed, by more than --grace are killed.
wait_for_all() {
  local failed='' since
  until all_ended; do
    since=${stopping:-$failed}
    if [[ -n $since ]] && ((SECONDS - since >= grace)); then
      say "not ended within --grace=$flag_grace: killed"
      send KILL
    fi
    sleep 0.2 &
    wait $! || true
  done
  send KILL # what they left behind
  wait "$reader" || true
  code=$(code_of_job "${codes[@]}")
}

explain_others() {
  local number
  for ((number = 1; number < flag_processes; number++)); do
    if [[ $(meaning "${codes[number]}") =~ ^(wrong|diverged|crashed)$ ]]; then
      say "process $number ended with ${codes[number]}, $logs/process$number.log:"
      tail -n 5 "$logs/process$number.log" >&2
    fi
  done
}

trap stop INT TERM
make_logs
while true; do
  start
  wait_for_all
  explain_others
  [[ -z $stopping ]] || break
  again "$code" || break
done
say_end "$code"
exit "$code"
