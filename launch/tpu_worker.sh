#!/usr/bin/env bash
# One worker's part of tpu_vm.sh, which copies it there: installs, starts a run that outlives the
# connection, and says what has become of it.
#
#   tpu_worker.sh install VERSION            of ~/big_ssl.tar.gz, as ~/big_ssl/.venv
#   tpu_worker.sh pull IMAGE
#   tpu_worker.sh start IMAGE|- [VARIABLE=VALUE …] -- ARGUMENT…
#   tpu_worker.sh state ARGUMENT…            big_ssl running|ended CODE|none same|other
#   tpu_worker.sh log BYTES                  the state, the bytes of the log that are then known,
#                                            and those after BYTES (-1: the last few lines)
#   tpu_worker.sh end SECONDS GRACE          waits, then asks, waits again, then kills; the state
# shellcheck disable=SC2329 # the steps are called by name
set -euo pipefail

STATE=$HOME/.big_ssl CONTAINER=big_ssl MOST_BYTES=1000000
mkdir -p "$STATE"

# --- installing

find_python() { # prints one that big_ssl runs on
  local name
  for name in python3.12 python3.11 python3; do
    if "$name" -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
      echo "$name"
      return
    fi
  done
  return 1
}

install() { # VERSION
  [[ $(cat "$STATE/installed" 2>/dev/null) != "$1" ]] || return 0
  find_python >/dev/null || {
    sudo apt-get -o DPkg::Lock::Timeout=300 -q update
    sudo DEBIAN_FRONTEND=noninteractive apt-get -o DPkg::Lock::Timeout=300 -q -y install python3.11-venv
  }
  mkdir -p "$HOME/big_ssl"
  tar -xzf "$HOME/big_ssl.tar.gz" -C "$HOME/big_ssl"
  cd "$HOME/big_ssl"
  [[ -x .venv/bin/python ]] || "$(find_python)" -m venv .venv
  .venv/bin/python -m pip install --quiet --editable '.[tpu]'
  echo "$1" >"$STATE/installed"
}

pull() { # IMAGE
  local host=${1%%/*}
  ! command -v gcloud >/dev/null ||
    case $host in *.pkg.dev | *gcr.io) sudo gcloud --quiet auth configure-docker "$host" ;; esac
  sudo docker pull --quiet "$1"
}

# --- running; whoever runs holds the lock

at_work() { ! (flock -n 9) 9>"$STATE/lock"; }

state() {
  if [[ -f $STATE/exit_code ]]; then
    echo "ended $(<"$STATE/exit_code")"
  elif at_work; then
    echo running
  elif [[ -f $STATE/arguments ]]; then
    echo 'ended 137' # gone without a word: killed, or the machine was started anew
  else
    echo none
  fi
}

same_as() { # ARGUMENT…
  [[ ! -f $STATE/arguments ]] || [[ $(printf '%s\0' "$@" | cksum) == $(cksum <"$STATE/arguments") ]]
}

start() { # IMAGE|- [VARIABLE=VALUE …] -- ARGUMENT…
  local image=$1 variables=() command
  shift
  while [[ $1 != -- ]]; do variables+=("$1") && shift; done
  shift
  [[ $(state) != running ]] || return 0
  ! at_work || send KILL # what the last run left behind
  rm -f "$STATE/exit_code"
  printf '%s\0' "$@" >"$STATE/arguments"
  : >"$STATE/log"
  if [[ $image == - ]]; then
    command=(env "${variables[@]}" .venv/bin/python -m big_ssl.main "$@")
  else
    command=(sudo docker run --rm --name "$CONTAINER" --user 0 --privileged --network host
      "${variables[@]/#/--env=}" "$image" "$@")
  fi
  (
    flock -w 10 9 || exit 1
    setsid nohup bash "$0" hold "$image" "${command[@]}" </dev/null >/dev/null 2>&1 &
  ) 9>"$STATE/lock"
}

hold() { # IMAGE|- COMMAND…
  local image=$1 code=0
  shift
  echo $$ >"$STATE/group"
  trap : TERM # it goes to the whole group; the code is still to be noted
  [[ $image != - ]] || cd "$HOME/big_ssl"
  "$@" >>"$STATE/log" 2>&1 || code=$?
  echo "$code" >"$STATE/exit_code.new"
  mv "$STATE/exit_code.new" "$STATE/exit_code"
}

send() { # SIGNAL to the run, in a container or not
  [[ ! -f $STATE/group ]] || kill "-$1" -- "-$(<"$STATE/group")" 2>/dev/null || true
  ! command -v docker >/dev/null || sudo docker kill --signal "$1" "$CONTAINER" >/dev/null 2>&1 || true
}

wait_for_end() { # SECONDS
  local until=$((SECONDS + $1))
  while [[ $(state) == running ]] && ((SECONDS < until)); do sleep 0.2; done
}

end() { # SECONDS GRACE
  wait_for_end "$1"
  [[ $(state) != running ]] || { send TERM && wait_for_end "$2"; }
  [[ $(state) != running ]] || { send KILL && wait_for_end 10; }
  echo "big_ssl $(state)"
}

show_log() { # BYTES
  local now known from=$1
  now=$(state) # before the log is read: what an ended run wrote is all there
  known=$(wc -c <"$STATE/log" 2>/dev/null || echo 0)
  ((from >= 0)) || from=$((known > 10000 ? known - 10000 : 0))
  ((known - from <= MOST_BYTES)) || known=$((from + MOST_BYTES)) now=running
  echo "big_ssl $now"
  echo "$((known))"
  ((known <= from)) || tail -c "+$((from + 1))" "$STATE/log" | head -c "$((known - from))"
}

main() { # STEP ARGUMENT…
  local step=$1
  shift
  case $step in
    install | pull | start | hold | end) "$step" "$@" ;;
    state) echo "big_ssl $(state) $(same_as "$@" && echo same || echo other)" ;;
    log) show_log "$1" ;;
    *) echo "error: no step $step" >&2 && return 2 ;;
  esac
}

# On one line: this file may be replaced while a run holds on to it.
main "$@"; exit
