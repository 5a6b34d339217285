# shellcheck shell=bash
# Of the launchers: messages, flags, what exit codes mean, and calls under a time limit.
# A launcher sets its flags' defaults (flag_NAME, dashes as underscores) before read_flags.

if ((BASH_VERSINFO[0] * 100 + BASH_VERSINFO[1] < 404)); then
  echo 'error: bash 4.4 or newer is needed (macOS: brew install bash coreutils)' >&2
  exit 2
fi

WRONG_INPUT=2
PREEMPTED=75
# shellcheck disable=SC2034 # the scripts that source this read them
LAUNCHER_FAILED=1 run_arguments=()

say() { printf '%s: %s\n' "${0##*/}" "$*" >&2; }

fail() { # CODE MESSAGE
  printf 'error: %s\n' "$2" >&2
  exit "$1"
}

wrong() { fail "$WRONG_INPUT" "$*"; }

# The comment at the head of the script is its help text.
usage() { sed -n '2,/^[^#]/{s/^# \{0,1\}//p}' "$0" | grep -v '^SBATCH '; }

quoted() { # ARGUMENT… as a shell reads them back, whichever shell that is
  local argument out=()
  for argument in "$@"; do
    if [[ $argument =~ ^[A-Za-z0-9_./:=,@%+-]+$ ]]; then
      out+=("$argument")
    else
      out+=("'${argument//\'/\'\\\'\'}'")
    fi
  done
  printf '%s\n' "${out[*]}"
}

nearest() { # NAME KNOWN… → ", did you mean --KNOWN?" where one is near
  printf '%s\n' "$@" | awk '
    NR == 1 { name = $0; next }
    { d = distance(name, $0); if (best == "" || d < least) { best = $0; least = d } }
    END { if (best != "" && least <= 3) printf " (did you mean --%s?)", best }
    function distance(a, b,  i, j, row, above, corner) {
      for (j = 0; j <= length(b); j++) row[j] = j
      for (i = 1; i <= length(a); i++) {
        corner = row[0]; row[0] = i
        for (j = 1; j <= length(b); j++) {
          above = row[j]
          corner += substr(a, i, 1) != substr(b, j, 1)
          if (above + 1 < corner) corner = above + 1
          if (row[j - 1] + 1 < corner) corner = row[j - 1] + 1
          row[j] = corner; corner = above
        }
      }
      return row[length(b)]
    }'
}

# Sets flag_NAME for --NAME=VALUE and for switches --NAME, adds to list_NAME for lists, and
# run_arguments to what follows --.
read_flags() { # 'VALUES' 'SWITCHES' 'LISTS' ARGUMENT…
  local values=" ${1//[[:space:]]/ } " switches=" $2 " lists=" $3 " name
  shift 3
  run_arguments=()
  while (($#)); do
    name=${1#--} name=${name%%=*}
    case $1 in
      --) shift && run_arguments=("$@") && return ;;
      --help | -h) usage && exit 0 ;;
      --*=*)
        if [[ $values == *" $name "* ]]; then
          printf -v "flag_${name//-/_}" '%s' "${1#*=}"
        elif [[ $lists == *" $name "* ]]; then
          local -n list="list_${name//-/_}" && list+=("${1#*=}")
        elif [[ $switches == *" $name "* ]]; then
          wrong "--$name takes no value"
        else
          unknown_flag "$name" "$values $lists $switches"
        fi ;;
      --*)
        if [[ $switches == *" $name "* ]]; then
          printf -v "flag_${name//-/_}" '%s' true
        elif [[ "$values$lists" == *" $name "* ]]; then
          wrong "--$name needs a value: --$name=VALUE"
        else
          unknown_flag "$name" "$values $lists $switches"
        fi ;;
      *) wrong "unexpected argument '$1'; flags are --NAME=VALUE, and the run's own come after --" ;;
    esac
    shift
  done
}

unknown_flag() { # NAME 'KNOWN…'
  local known
  read -ra known <<<"$2"
  case $1 in
    config | config.* | workdir) wrong "--$1 is a flag of the run: it comes after --" ;;
    *) wrong "unknown flag --$1$(nearest "$1" "${known[@]}"); see --help" ;;
  esac
}

need_flags() { # NAME…
  local name variable
  for name in "$@"; do
    variable=flag_${name//-/_}
    [[ -n ${!variable} ]] || wrong "--$name is missing; see --help"
  done
}

need_numbers() { # NAME…
  local name variable
  for name in "$@"; do
    variable=flag_${name//-/_}
    [[ ${!variable} =~ ^[0-9]+$ ]] || wrong "--$name=${!variable} is not a whole number"
  done
}

# Of a run: without them nothing can be trained.
need_run() {
  local argument config='' workdir=''
  for argument in "${run_arguments[@]}"; do
    case $argument in --config=*) config=1 ;; --workdir=*) workdir=1 ;; esac
  done
  [[ -n $config && -n $workdir ]] ||
    wrong "the run's flags come after --, for example: -- --config=configs/derm_simclr.py --workdir=DIR"
}

# A workdir on one of several machines' own disks is lost with it, and not seen by the others.
need_remote_workdir() {
  local argument
  for argument in "${run_arguments[@]}"; do
    [[ $argument != --workdir=* || $argument == --workdir=*://* ]] ||
      wrong "$argument is on a disk that is deleted with the machine; give a bucket: --workdir=gs://BUCKET/RUN"
  done
}

need_program() { # NAME HINT
  command -v "$1" >/dev/null || wrong "$1 is not installed: $2"
}

# One assignment a line: of several, the shell sees only the last one's failure.
seconds() { # --NAME VALUE: 90, 90s, 30m, 2h or 1d
  local factor=1
  [[ $2 =~ ^([0-9]+)([smhd]?)$ ]] || wrong "$1=$2 is not a time; for example 90s, 30m, 2h or 1d"
  case ${BASH_REMATCH[2]} in m) factor=60 ;; h) factor=3600 ;; d) factor=86400 ;; esac
  echo $((10#${BASH_REMATCH[1]} * factor))
}

# What a code asks for: done; wrong and diverged are never tried again; preempted is, as often as
# --restarts allows (134: JAX aborts when another process is gone; 137: killed; 143: told to stop
# before it could save; 255: ssh); anything else is a crash, tried again --crashes times.
meaning() { # CODE
  case $1 in
    0) echo 'done' ;;
    2) echo wrong ;;
    3) echo diverged ;;
    75 | 134 | 137 | 143 | 255) echo preempted ;;
    *) echo crashed ;;
  esac
}

# The code of a job from those of its processes: the one that says most.
code_of_job() { # CODE…
  local code kind found=''
  for kind in wrong diverged crashed preempted; do
    for code in "$@"; do
      [[ $(meaning "$code") != "$kind" ]] || found=${found:-$code}
    done
  done
  [[ $(meaning "${found:-0}") != preempted ]] || found=$PREEMPTED
  echo "${found:-0}"
}

flag_restarts=20 flag_crashes=1 restarts=0 crashes=0

# Whether the same command is to be run again after this code; counts, and says why.
again() { # CODE
  case $(meaning "$1") in
    preempted)
      ((restarts < flag_restarts)) || { say "stopped again, and --restarts=$flag_restarts are used up" && return 1; }
      restarts=$((restarts + 1))
      say "stopped before it was done; again ($restarts of --restarts=$flag_restarts)" ;;
    crashed)
      ((crashes < flag_crashes)) || return 1
      crashes=$((crashes + 1))
      say "crashed with exit code $1; again ($crashes of --crashes=$flag_crashes)" ;;
    *) return 1 ;;
  esac
}

say_end() { # CODE
  case $(meaning "$1") in
    done) say 'done' ;;
    wrong) say 'exit code 2: the input is wrong, see the line above; not tried again' ;;
    diverged) say 'exit code 3: training diverged; not tried again' ;;
    preempted) say 'exit code 75: the same command goes on from the last checkpoint' ;;
    *) say "exit code $1: crashed, see the log above" ;;
  esac
}

# --- calls of a cloud's command line

# limit: seconds a call may take. FINAL: an extended regular expression of complaints that do not
# pass by themselves. input: a file for standard input.
flag_tries=3 flag_poll=15 limit=300 FINAL='' call='' complaint='' input=/dev/null
export reply='' # not for children: for shellcheck, which does not see who reads it

make_scratch() {
  scratch=$(mktemp -d)
  trap 'rm -rf "$scratch"' EXIT
}

# Runs a command under a time limit, and again where the failure may pass. Sets reply and complaint.
attempt() { # COMMAND…
  local try code
  if [[ -n $flag_dry_run ]]; then
    quoted "$@"
    return
  fi
  for ((try = 1; ; try++)); do
    code=0 complaint=''
    timeout --kill-after=10 "$limit" "$@" <"$input" >"$scratch/out" 2>"$scratch/err" &
    call=$! # in the background: a signal need not wait for it
    wait "$call" || code=$?
    call='' reply=$(<"$scratch/out")
    ((code != 0)) || return 0
    complaint=$({ grep -i -m 1 'error' "$scratch/err" || tail -n 1 "$scratch/err"; } | tr -s '[:space:]' ' ')
    complaint=${complaint% }
    ((code != 124 && code != 137)) || complaint="no answer within $limit seconds from: ${*:1:5}"
    complaint=${complaint:-"exit code $code from: ${*:1:5}"}
    [[ ! $complaint =~ $FINAL ]] && ((try < flag_tries)) || return 1
    sleep_a_poll
  done
}

end_call() { [[ -z $call ]] || kill "$call" 2>/dev/null || true; }

sleep_a_poll() {
  sleep "$flag_poll" &
  wait $! || true
}
