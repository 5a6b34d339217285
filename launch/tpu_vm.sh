#!/usr/bin/env bash
# Runs big_ssl on a Cloud TPU slice: asks for it, installs, runs, shows worker 0's log, does it
# again after pre-emption, and deletes the slice at the end.
#
#   launch/tpu_vm.sh --name=NAME --zone=ZONE --type=v5e-16 [FLAGS] -- \
#       --config=configs/derm_simclr.py --workdir=gs://BUCKET/RUN …
#
# Each step looks at what is there first: the same command, started again, uses the slice NAME if
# there is one, and attaches to the run that is at work on it. A slice has one run at a time.
# Single steps: launch/tpu_vm.sh create|install|stop|delete --name=NAME --zone=ZONE ….
#
#   --name, --zone, --project   of the queued resource; --project defaults to gcloud's
#   --type=v5e-16        the names of python -m big_ssl.fit --topology, or gcloud's (v5litepod-16)
#   --spot               may be pre-empted, and costs less
#   --wait=TIME          for capacity, then gives up with 75 (default 1d)
#   --restarts=N         after pre-emption, loss of a worker or exit code 75 (default 20)
#   --crashes=N          after any other exit code but 0, 2 and 3 (default 1)
#   --keep               the slice stays at the end
#   --image=IMAGE        runs this image, built from Dockerfile with EXTRA=tpu, by docker; without
#                        it the working tree is installed into a virtual environment, with
#                        python3.11-venv by apt-get where the workers' own Python is older
#   --env=NAME=VALUE     for the run, may be repeated: --env=JAX_COMPILATION_CACHE_DIR=gs://BUCKET/cache
#   --runtime=VERSION    of the TPU software (default: by type)
#   --create=FLAG        more for gcloud … queued-resources create, may be repeated: --create=--reserved
#   --ssh=FLAG           more for gcloud … ssh and scp, may be repeated: --ssh=--internal-ip
#   --dry-run            prints the gcloud commands, runs nothing
#   --grace=TIME         for the other workers, when worker 0 has ended (default 3m)
#   --unreachable=TIME   without an answer from worker 0, then the slice is replaced (default 10m)
#   --timeout=TIME, --install-timeout=TIME, --delete-wait=TIME   of one call (default 5m, 30m), of
#                        a deletion (15m); --tries=N for calls that fail (3); --poll=SECONDS (15)
#
# Ctrl-C stops only the watching: slice and run go on, and cost money. The same command attaches
# again; stop makes the run save and end; delete deletes the slice.
# Exit codes: the run's (0 done; 2 wrong input; 3 diverged; 75 stopped, the same command goes on);
# 1 where the slice cannot be made or deleted. It is deleted whatever the code.
set -euo pipefail

HERE=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
# shellcheck source=launch/common.sh
source "$HERE/common.sh"

step=run
case ${1:-} in create | install | stop | delete) step=$1 && shift ;; esac
flag_name='' flag_zone='' flag_project='' flag_type='' flag_spot='' flag_wait=1d flag_keep=''
flag_image='' flag_runtime='' flag_dry_run='' flag_grace=3m flag_unreachable=10m flag_timeout=5m
flag_install_timeout=30m flag_delete_wait=15m
list_env=() list_create=() list_ssh=()
read_flags 'name zone project type wait restarts crashes image runtime grace unreachable timeout
  install-timeout delete-wait tries poll' 'spot keep dry-run' 'env create ssh' "$@"

case $step in
  run) need_flags name zone type && need_run && need_remote_workdir ;;
  create) need_flags name zone type ;;
  *) need_flags name zone ;;
esac
need_numbers restarts crashes tries
[[ $flag_name =~ ^[a-z]([-a-z0-9]{0,60}[a-z0-9])?$ ]] ||
  wrong "--name=$flag_name: small letters, digits and dashes, a letter first"
limit=$(seconds --timeout "$flag_timeout")
capacity_wait=$(seconds --wait "$flag_wait")
grace=$(seconds --grace "$flag_grace")
unreachable=$(seconds --unreachable "$flag_unreachable")
install_limit=$(seconds --install-timeout "$flag_install_timeout")
delete_wait=$(seconds --delete-wait "$flag_delete_wait")
type=${flag_type/#v5e-/v5litepod-}
if [[ -n $type ]]; then
  case $type in
    v5litepod-*) runtime=v2-alpha-tpuv5-lite ;;
    v5p-*) runtime=v2-alpha-tpuv5 ;;
    v6e-*) runtime=v2-alpha-tpuv6e ;;
    v[234]-*) runtime=tpu-ubuntu2204-base ;;
    *) wrong "--type=$flag_type is no slice of v2, v3, v4, v5e, v5p or v6e; for example v5e-16" ;;
  esac
  [[ $type =~ -[0-9]+$ ]] || wrong "--type=$flag_type: the size is a number, for example v5e-16"
fi
runtime=${flag_runtime:-${runtime:-}}
place=("--zone=$flag_zone")
[[ -z $flag_project ]] || place+=("--project=$flag_project")
if [[ -z $flag_dry_run ]]; then
  need_program gcloud 'see cloud.google.com/sdk, then: gcloud auth login'
  need_program timeout 'it is part of coreutils (macOS: brew install coreutils)'
fi
make_scratch

# --- gcloud

FINAL='NOT_FOUND|PERMISSION_DENIED|UNAUTHENTICATED|INVALID_ARGUMENT|FAILED_PRECONDITION|[Qq]uota|Reauth|active account|gcloud auth login|unrecognized arguments|Invalid choice|must be specified'

cloud() { # ARGUMENT… of gcloud compute tpus
  attempt gcloud compute tpus "$@" "${place[@]}" --quiet
}

absent() { [[ $complaint == *NOT_FOUND* && $complaint == *"$flag_name"* ]]; }

by_hand() {
  quoted gcloud compute tpus queued-resources delete "$flag_name" --force "${place[@]}"
}

itself() { # STEP
  quoted launch/tpu_vm.sh "$1" "--name=$flag_name" "${place[@]}"
}

# --- the slice

slice=ABSENT

# Sets slice: the state of the queued resource, ABSENT, or UNKNOWN where gcloud does not say.
look() {
  if cloud queued-resources describe "$flag_name" '--format=value(state.state)'; then
    slice=${reply:-UNKNOWN}
  elif absent; then
    slice=ABSENT
  elif [[ $complaint =~ $FINAL ]]; then
    give_up "$WRONG_INPUT" "$complaint"
  else
    say "$complaint"
    slice=UNKNOWN
  fi
}

request() {
  local flags=("--node-id=$flag_name" "--accelerator-type=$type" "--runtime-version=$runtime")
  [[ -z $flag_spot ]] || flags+=(--spot)
  slice=UNKNOWN # from here on there may be something to delete, whatever the answer
  cloud queued-resources create "$flag_name" "${flags[@]}" "${list_create[@]}" --async && return
  [[ $complaint != *ALREADY_EXISTS* ]] || return 0
  [[ ! $complaint =~ $FINAL ]] || wrong "$complaint" # refused
  give_up "$LAUNCHER_FAILED" "$complaint"
}

# Returns when the slice is ready.
make_slice() {
  local until=$((SECONDS + capacity_wait)) last='' requested=''
  while true; do
    look
    [[ $slice == "$last" ]] || say "slice $flag_name: $slice"
    last=$slice
    case $slice in
      ACTIVE) return ;;
      ABSENT) request && requested=true ;;
      FAILED | SUSPENDING | SUSPENDED)
        [[ -z $requested ]] || again "$PREEMPTED" || give_up "$PREEMPTED" "the request for $type ended as $slice"
        delete_slice || exit "$LAUNCHER_FAILED" ;;
    esac
    ((SECONDS < until)) ||
      give_up "$PREEMPTED" "no capacity for $type in $flag_zone within --wait=$flag_wait; try another zone or size, or a longer --wait"
    sleep_a_poll
  done
}

# Returns when nothing is left that costs money; else says what to do.
delete_slice() {
  local until=$((SECONDS + delete_wait))
  if ! cloud queued-resources delete "$flag_name" --force --async && ! absent; then
    say "$complaint"
  else
    [[ -z $flag_dry_run ]] || return 0
    while cloud queued-resources describe "$flag_name" '--format=value(state.state)' || ! absent; do
      ((SECONDS < until)) || break
      sleep_a_poll
    done
    ! absent || { say "slice $flag_name is deleted" && slice=ABSENT && return; }
  fi
  printf 'error: slice %s is not deleted and may cost money; delete it by hand: %s\n' "$flag_name" "$(by_hand)" >&2
  return 1
}

end_slice() { # whatever has happened
  if [[ -n $flag_keep ]]; then
    say "slice $flag_name is kept and costs money; to delete it: $(itself delete)"
  else
    delete_slice
  fi
}

give_up() { # CODE MESSAGE
  printf 'error: %s\n' "$2" >&2
  [[ $slice == ABSENT ]] || end_slice || true
  exit "$1"
}

# --- the workers

on_workers() { # all|NUMBER STEP ARGUMENT…
  local worker=$1
  shift
  cloud tpu-vm ssh "$flag_name" "--worker=$worker" "--command=bash tpu_worker.sh $(quoted "$@")" "${list_ssh[@]}"
}

pack() {
  local files
  cd "$HERE/.."
  files=$(find pyproject.toml README.md LICENSE big_ssl configs launch -type f ! -name '*.pyc' | LC_ALL=C sort)
  tar -czf "$scratch/big_ssl.tar.gz" -T - <<<"$files"
  version=$(xargs cat <<<"$files" | cksum | tr ' ' -)
  cd - >/dev/null
}

copy() {
  local files=("$HERE/tpu_worker.sh")
  [[ -n $flag_image ]] || { pack && files+=("$scratch/big_ssl.tar.gz"); }
  cloud tpu-vm scp "${files[@]}" "$flag_name:" --worker=all "${list_ssh[@]}"
}

install() {
  local limit=$install_limit
  say 'installing on all workers'
  if [[ -n $flag_image ]]; then
    on_workers all pull "$flag_image"
  else
    on_workers all install "$version"
  fi
}

start() { on_workers all start "${flag_image:--}" "${list_env[@]}" -- "${run_arguments[@]}"; }

states() { grep '^big_ssl ' <<<"$reply"; }

# Of all workers; one that does not end, or has lost what it ran, counts as killed.
codes() { states | sed -n 's/^big_ssl ended \([0-9]*\).*/\1/p; s/^big_ssl \(running\|none\).*/137/p'; }

all_done() { [[ -n $(states) ]] && ! states | grep -qv '^big_ssl ended 0 same'; }

shown=0 code=''

# Brings the run to work, or finds it so; sets code where it is found done. Fails with the slice.
prepare() {
  shown=0 code=''
  copy && on_workers all state "${run_arguments[@]}" || return
  case $(states) in
    *running\ other*)
      printf 'error: slice %s runs another command; wait for it, give another --name, or end it: %s\n' \
        "$flag_name" "$(itself stop)" >&2
      exit "$WRONG_INPUT" ;;
    *running*ended* | *ended*running*) say 'some workers have ended; waiting for the others' ;;
    *running*) say "attached to the run at work on $flag_name" && shown=-1 && start ;;
    *)
      if all_done; then
        say 'the run was done already' && code=0
      else
        install && start
      fi ;;
  esac
}

# Reads an answer to log: sets state and shown, prints what is new.
show() {
  local answer
  answer=$(awk '/^big_ssl / { getline bytes; print substr($0, 9) "|" bytes; exit }' "$scratch/out")
  [[ $answer =~ ^([a-z0-9 ]+)\|([0-9]+)$ ]] || return 0
  state=${BASH_REMATCH[1]} shown=${BASH_REMATCH[2]}
  awk 'answered { print } /^big_ssl / && !answered { getline; answered = 1 }' "$scratch/out"
}

# Shows worker 0's log until the run has ended; sets code. Fails when the slice is lost.
follow() {
  local heard=$SECONDS state=running
  [[ -z $code ]] || return 0
  while [[ $state == running ]]; do
    if on_workers 0 log "$shown"; then
      heard=$SECONDS
      show
    else
      say "worker 0 does not answer: $complaint"
      look
      case $slice in ACTIVE | UNKNOWN) ;; *) return 1 ;; esac
      ((SECONDS - heard < unreachable)) || return 1
    fi
    [[ $state != running ]] || sleep_a_poll
  done
  local limit=$((limit + 2 * grace))
  on_workers all end "$grace" "$grace" || return
  local found
  mapfile -t found < <(codes)
  ((${#found[@]})) || return
  code=$(code_of_job "${found[@]}")
}

run() {
  local why
  while true; do
    make_slice
    if prepare && follow; then
      again "$code" || break
    else
      why=$complaint
      look
      if [[ $slice == ACTIVE ]]; then # it is there, and yet does not work
        code=$LAUNCHER_FAILED
        again "$code" || give_up "$code" "slice $flag_name: ${why:-no answer}"
      else
        say "slice $flag_name is lost: $slice"
        code=$PREEMPTED
        again "$code" || break
      fi
      delete_slice || exit "$LAUNCHER_FAILED"
    fi
  done
  say_end "$code"
  end_slice || { ((code != 0)) || code=$LAUNCHER_FAILED; }
  exit "$code"
}

# shellcheck disable=SC2329 # the trap calls it
leave() {
  end_call
  say "watching stopped; slice $flag_name, or the request for it, stays and may cost money"
  say "to go on: the same command; to end the run: $(itself stop); to delete: $(itself delete)"
  exit 130
}
trap leave INT TERM

dry_run() {
  request && copy && install 2>/dev/null && start && on_workers 0 log 0 && on_workers all end "$grace" "$grace"
  [[ -n $flag_keep ]] || delete_slice
}

case $step in
  create) if [[ -n $flag_dry_run ]]; then request; else make_slice; fi ;;
  install) { copy && install; } || fail "$LAUNCHER_FAILED" "$complaint" ;;
  stop)
    limit=$((limit + grace))
    on_workers all end 0 "$grace" || fail "$LAUNCHER_FAILED" "$complaint"
    states || true ;;
  delete) delete_slice ;;
  run) if [[ -n $flag_dry_run ]]; then dry_run; else run; fi ;;
esac
