#!/usr/bin/env bash
# Runs big_ssl on GKE as a JobSet, on a TPU slice or on nodes with GPUs: fills jobset.yaml, creates
# it, shows the log of process 0, ends with the run's exit code and deletes the JobSet.
#
#   launch/gke/run.sh --name=NAME --accelerator=v5e-16 --image=IMAGE [FLAGS] -- \
#       --config=configs/derm_simclr.py --workdir=gs://BUCKET/RUN …
#
# The same command, started again, attaches to the JobSet that is at work.
# launch/gke/run.sh delete --name=NAME deletes it.
#
#   --accelerator=NAME   v4-N, v5p-N, v5e-N, v6e-N or a shape, v5p:4x4x12; or GPUs of a node: h100x8
#                        (t4, l4, v100, a100, a100-80gb, h100, h100-mega, h200)
#   --nodes=N            with GPUs (default 1); a slice has its own number
#   --image=IMAGE        built from Dockerfile with EXTRA=tpu or EXTRA=cuda
#   --namespace=NAME     (default: default)
#   --service-account=NAME   of Kubernetes, that may write to the bucket (default: default)
#   --spot               nodes that may be pre-empted
#   --restarts=N         of the whole JobSet, after anything but 0, 2 and 3; a crash counts too
#                        (default 20)
#   --wait=TIME          for nodes, then gives up with 75 (default 1d)
#   --grace=TIME         for saving, after SIGTERM (default 5m; spot nodes give less)
#   --env=NAME=VALUE     for the run, may be repeated
#   --keep               the JobSet stays at the end
#   --dry-run            prints the manifest; needs no kubectl
#   --timeout=TIME, --tries=N, --poll=SECONDS   of kubectl's calls (default 2m, 3, 15)
#
# Needed in the cluster: JobSet 0.6 or newer (jobset.sigs.k8s.io), Kubernetes 1.31 or newer, node
# pools that fit. Ctrl-C stops only the watching.
# Exit codes: the run's (0 done; 2 wrong input; 3 diverged; 75 stopped, the same command goes on);
# 1 where the JobSet cannot be made or deleted.
set -euo pipefail

HERE=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
# shellcheck source=launch/common.sh
source "$HERE/../common.sh"

step=run
[[ ${1:-} != delete ]] || { step=delete && shift; }
flag_name='' flag_accelerator='' flag_image='' flag_nodes='' flag_namespace=default flag_spot=''
flag_service_account=default flag_wait=1d flag_grace=5m flag_keep='' flag_dry_run='' flag_timeout=2m
list_env=()
read_flags 'name accelerator image nodes namespace service-account restarts wait grace timeout tries
  poll' 'spot keep dry-run' 'env' "$@"
need_flags name
[[ $step == delete ]] || { need_flags accelerator image && need_run && need_remote_workdir; }
need_numbers restarts tries
[[ $flag_name =~ ^[a-z]([-a-z0-9]{0,38}[a-z0-9])?$ ]] ||
  wrong "--name=$flag_name: at most 40 small letters, digits and dashes, a letter first"
limit=$(seconds --timeout "$flag_timeout")
capacity_wait=$(seconds --wait "$flag_wait")
grace=$(seconds --grace "$flag_grace")
if [[ -z $flag_dry_run ]]; then
  need_program kubectl 'gcloud components install kubectl, then: gcloud container clusters get-credentials CLUSTER'
  need_program timeout 'it is part of coreutils (macOS: brew install coreutils)'
fi
make_scratch

# --- what to ask for; both set selector, resource, devices (a node) and nodes

COORDINATOR_PORT=8476 TPU_PORT=8471

sides_of() { # GENERATION CHIPS
  case $1-$2 in
    v[56]e-1) echo 1x1 ;; v[56]e-4) echo 2x2 ;; v[56]e-8) echo 2x4 ;; v[56]e-16) echo 4x4 ;;
    v[56]e-32) echo 4x8 ;; v[56]e-64) echo 8x8 ;; v[56]e-128) echo 8x16 ;; v[56]e-256) echo 16x16 ;;
    v[56]e-*) return 1 ;;
    *-4) echo 2x2x1 ;; *-8) echo 2x2x2 ;; *-16) echo 2x2x4 ;; *-32) echo 2x4x4 ;;
    *-64) echo 4x4x4 ;; *-128) echo 4x4x8 ;; *-256) echo 4x8x8 ;; *-512) echo 8x8x8 ;;
    *-1024) echo 8x8x16 ;; *-2048) echo 8x16x16 ;; *) return 1 ;;
  esac
}

choose_tpu() {
  local generation=${flag_accelerator%%[-:]*} size=${flag_accelerator#*[-:]} sides chips label
  case $generation in
    v4) label=tpu-v4-podslice ;;
    v5p) label=tpu-v5p-slice ;;
    v5e | v5litepod) generation=v5e label=tpu-v5-lite-podslice ;;
    v6e) label=tpu-v6e-slice ;;
    *) wrong "--accelerator=$flag_accelerator: GKE has v4, v5p, v5e and v6e; others by launch/tpu_vm.sh" ;;
  esac
  if [[ $size =~ ^[0-9]+(x[0-9]+)+$ ]]; then
    sides=$size
  else
    [[ $size =~ ^[1-9][0-9]*$ ]] || wrong "--accelerator=$flag_accelerator; for example v5e-16 or h100x8"
    [[ $generation == v?e ]] || size=$((size % 2 ? 0 : size / 2)) # the name counts cores, two a chip
    sides=$(sides_of "$generation" "$size") ||
      wrong "--accelerator=$flag_accelerator is no slice; give its shape, for example v5p:4x4x12"
  fi
  chips=$((${sides//x/*}))
  selector="\"cloud.google.com/gke-tpu-accelerator\": \"$label\", \"cloud.google.com/gke-tpu-topology\": \"$sides\""
  resource=google.com/tpu devices=4
  [[ $generation != v?e ]] || ((chips > 8)) || devices=$chips # on one host
  nodes=$((chips / devices))
  [[ ${flag_nodes:-$nodes} == "$nodes" ]] || wrong "--nodes=$flag_nodes: a slice $flag_accelerator has $nodes"
}

choose_gpus() {
  local label
  nodes=${flag_nodes:-1} devices=${flag_accelerator##*x} resource=nvidia.com/gpu
  case ${flag_accelerator%x*} in
    t4 | v100 | a100) label=nvidia-tesla-${flag_accelerator%x*} ;;
    l4 | a100-80gb) label=nvidia-${flag_accelerator%x*} ;;
    h100 | h100-mega) label=nvidia-${flag_accelerator%x*}-80gb ;;
    h200) label=nvidia-h200-141gb ;;
    *) wrong "--accelerator=$flag_accelerator: no GPU of GKE; for example h100x8, a100-80gbx4, l4x1" ;;
  esac
  [[ $nodes =~ ^[1-9][0-9]*$ ]] || wrong "--nodes=$nodes is not a whole number from 1 on"
  selector="\"cloud.google.com/gke-accelerator\": \"$label\""
}

choose() {
  if [[ $flag_accelerator =~ ^v[0-9][a-z]*[-:] ]]; then
    choose_tpu
  elif [[ $flag_accelerator =~ ^[a-z].*x[1-9][0-9]*$ ]]; then
    choose_gpus
  else
    wrong "--accelerator=$flag_accelerator; for example v5e-16 or h100x8"
  fi
  [[ -z $flag_spot ]] || selector+=', "cloud.google.com/gke-spot": "true"'
}

# --- the manifest: JSON values in the places of jobset.yaml

json() { # TEXT
  local text=${1//\\/\\\\}
  text=${text//\"/\\\"} text=${text//$'\n'/\\n} text=${text//$'\t'/\\t}
  printf '"%s"' "$text"
}

literal() { json "${1//\$/\$\$}"; } # TEXT that Kubernetes would else expand, as in $(NAME)

list_of_arguments() {
  local argument out=()
  for argument in "${run_arguments[@]}"; do out+=("$(literal "$argument")"); done
  local IFS=,
  echo "[${out[*]}]"
}

list_of_env() {
  local pair out=()
  for pair in "${list_env[@]}"; do
    out+=("{\"name\": $(json "${pair%%=*}"), \"value\": $(literal "${pair#*=}")}")
  done
  if [[ $resource == nvidia.com/gpu ]]; then
    out+=("{\"name\": \"JAX_COORDINATOR_ADDRESS\", \"value\": \"$flag_name-worker-0-0.$flag_name:$COORDINATOR_PORT\"}"
      "{\"name\": \"JAX_NUM_PROCESSES\", \"value\": \"$nodes\"}"
      '{"name": "JAX_PROCESS_ID", "valueFrom": {"fieldRef": {"fieldPath": "metadata.annotations['"'batch.kubernetes.io/job-completion-index'"']"}}}')
  fi
  local IFS=,
  echo "[${out[*]}]"
}

fill() { # TEMPLATE-TEXT; the command's mark is of everything but itself
  local text=$1 annotations="\"big-ssl/command\": \"$2\"" port=$COORDINATOR_PORT
  if [[ $resource == google.com/tpu ]]; then
    port=$TPU_PORT # GKE's webhook tells JAX the hosts of a slice: TPU_WORKER_HOSTNAMES, TPU_WORKER_ID
    ((nodes == 1)) || annotations+=', "alpha.jobset.sigs.k8s.io/exclusive-topology": "cloud.google.com/gke-nodepool"'
  fi
  local place
  local -A values=(
    [name]=$flag_name [namespace]=$flag_namespace [annotations]="{$annotations}"
    [restarts]=$flag_restarts [nodes]=$nodes [grace]=$grace [port]=$port
    [node_selector]="{$selector}" [service_account]=$(json "$flag_service_account")
    [image]=$(json "$flag_image") [devices]="{\"$resource\": $devices}"
    [env]=$(list_of_env) [arguments]=$(list_of_arguments)
  )
  # The run's arguments last: what they hold is not searched for places.
  for place in name namespace annotations restarts nodes grace port node_selector service_account image devices env arguments; do
    text=${text//"{{$place}}"/"${values[$place]}"}
  done
  printf '%s\n' "$text"
}

write_manifest() {
  local template
  choose
  template=$(<"$HERE/jobset.yaml")
  mark=$(fill "$template" '' | cksum | tr ' ' -)
  fill "$template" "$mark" >"$scratch/jobset.yaml"
}

# --- kubectl

FINAL="NotFound|doesn't have a resource type|no matches for kind|[Ff]orbidden|Unauthorized|must be logged in|[Ii]nvalid|denied the request|does not exist|unknown flag|AlreadyExists"

kube() { attempt kubectl --namespace="$flag_namespace" "$@"; }

by_hand() { quoted kubectl --namespace="$flag_namespace" delete jobset "$flag_name"; }

# Sets state (ABSENT, AtWork, Completed, Failed or UNKNOWN) and its_mark.
look() {
  if kube get jobset "$flag_name" --output='jsonpath={.metadata.annotations.big-ssl/command}|{range .status.conditions[?(@.status=="True")]}{.type} {end}'; then
    its_mark=${reply%%|*}
    case ${reply#*|} in
      *Completed*) state=Completed ;;
      *Failed*) state=Failed ;;
      *) state=AtWork ;;
    esac
  elif [[ $complaint == *NotFound* && $complaint == *"\"$flag_name\""* ]]; then
    state=ABSENT
  elif [[ $complaint =~ doesn\'t\ have\ a\ resource\ type ]]; then
    wrong 'the cluster has no JobSet; to install it: jobset.sigs.k8s.io/docs/installation'
  elif [[ $complaint =~ $FINAL ]]; then
    [[ -z $pod ]] || fail "$LAUNCHER_FAILED" "$complaint; the JobSet goes on: the same command attaches again"
    wrong "$complaint"
  else
    say "$complaint"
    state=UNKNOWN
  fi
}

create() {
  input=$scratch/jobset.yaml kube create --filename=- && say "JobSet $flag_name is created" && return
  [[ $complaint != *AlreadyExists* ]] || return 0
  [[ ! $complaint =~ $FINAL ]] || wrong "$complaint"
  give_up "$LAUNCHER_FAILED" "$complaint"
}

delete() {
  if kube delete jobset "$flag_name" --ignore-not-found --timeout="${limit}s"; then
    say "JobSet $flag_name is deleted"
  else
    printf 'error: JobSet %s is not deleted (%s) and may cost money; delete it by hand: %s\n' \
      "$flag_name" "$complaint" "$(by_hand)" >&2
    return 1
  fi
}

end_jobset() {
  if [[ -n $flag_keep ]]; then
    say "JobSet $flag_name is kept; to delete it: $(by_hand)"
  else
    delete
  fi
}

give_up() { # CODE MESSAGE
  printf 'error: %s\n' "$2" >&2
  end_jobset || true
  exit "$1"
}

# --- the run

state='' its_mark='' code='' codes=() stream='' pod='' heard=''

# What its pods say. Sets codes, if there are any, shows the log of process 0, and says why it waits.
look_at_pods() {
  local name phase reason last_reason=${reason_said:-} exit_code found=() lines
  kube get pods --selector="jobset.sigs.k8s.io/jobset-name=$flag_name" \
    --output='jsonpath={range .items[*]}{.metadata.name}|{.status.phase}|{.status.containerStatuses[*].state.waiting.reason}|{.status.containerStatuses[*].state.terminated.exitCode}{"\n"}{end}' || return 0
  lines=$reply
  while IFS='|' read -r name phase reason exit_code; do
    [[ -z $exit_code ]] || found+=("$exit_code")
    [[ $name == "$flag_name-worker-0-0-"* ]] || continue
    if [[ $phase == Pending && $phase$reason != "$last_reason" ]]; then
      say "process 0 waits${reason:+: $reason}"
      reason_said=$phase$reason
    fi
    [[ $phase == Pending ]] || show_log "$name"
  done <<<"$lines"
  ((${#found[@]} == 0)) || codes=("${found[@]}")
}

show_log() { # POD
  [[ $1 != "$pod" ]] || ! kill -0 "$stream" 2>/dev/null || return 0
  local since=()
  if [[ $1 == "$pod" ]]; then
    since=("--since-time=$heard") # the connection was lost, or it has ended and all is shown
  else
    [[ -z $pod ]] || say "started again as $1"
  fi
  pod=$1 heard=$(date -u +%Y-%m-%dT%H:%M:%SZ)
  kubectl --namespace="$flag_namespace" logs --follow "${since[@]}" "$pod" 2>/dev/null &
  stream=$!
}

# Shows the log until the JobSet has ended; sets code.
follow() {
  local until=$((SECONDS + capacity_wait))
  while true; do
    look
    look_at_pods
    case $state in
      Completed) code=0 && break ;;
      Failed) code=$(code_of_job "${codes[@]}") && break ;;
      ABSENT) say "JobSet $flag_name was deleted by somebody else" && code=$PREEMPTED && break ;;
    esac
    [[ -n $pod ]] || ((SECONDS < until)) ||
      give_up "$PREEMPTED" "no nodes for $flag_accelerator within --wait=$flag_wait (${reason_said:-no pod}); see kubectl describe pods"
    sleep_a_poll
  done
  [[ $state != Failed || $code != 0 ]] || code=$LAUNCHER_FAILED # no pod is left that says why
  end_stream
}

end_stream() { # it ends with its pod; else it is ended
  local until=$((SECONDS + 5))
  while [[ -n $stream ]] && kill -0 "$stream" 2>/dev/null && ((SECONDS < until)); do sleep 0.1; done
  [[ -z $stream ]] || kill "$stream" 2>/dev/null || true
}

run() {
  write_manifest
  look
  if [[ $state != ABSENT && $state != UNKNOWN && $its_mark != "$mark" ]]; then
    wrong "JobSet $flag_name is there with another command or other flags; give another --name, or delete it: $(by_hand)"
  fi
  case $state in
    AtWork) say "attached to the JobSet $flag_name" ;;
    Completed) say 'the run was done already' ;;
    Failed) say 'it had failed; created anew' && { delete || exit "$LAUNCHER_FAILED"; } && create ;;
    *) create ;;
  esac
  follow
  say_end "$code"
  end_jobset || { ((code != 0)) || code=$LAUNCHER_FAILED; }
  exit "$code"
}

# shellcheck disable=SC2329 # the trap calls it
leave() {
  end_call
  [[ -z $stream ]] || kill "$stream" 2>/dev/null || true
  say "watching stopped; JobSet $flag_name stays; to go on: the same command; to delete it: $(by_hand)"
  exit 130
}
trap leave INT TERM

if [[ $step == delete ]]; then
  delete
elif [[ -n $flag_dry_run ]]; then
  write_manifest
  cat "$scratch/jobset.yaml"
else
  run
fi
