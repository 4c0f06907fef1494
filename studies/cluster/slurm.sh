#!/usr/bin/env bash
# One search as an array of SLURM jobs: the tasks share a study and requeue themselves before their time limit.
#
#     STUDY=letters TRIALS=200 sbatch --array=0-7 --time=4:00:00 studies/cluster/slurm.sh --workers 2
#
# Arguments after the script's name are passed to `islr-search run`. See README.md in this folder.

#SBATCH --job-name=search
#SBATCH --array=0-3
#SBATCH --time=2:00:00
#SBATCH --signal=B:TERM@120
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --output=%x-%A_%a.log
#SBATCH --ntasks=1
#SBATCH --cpus-per-task=1
#SBATCH --mem=4G
##SBATCH --gpus=1
##SBATCH --partition=NAME --account=NAME

STUDY=${STUDY:-label_smoothing} # name or file of the study
TRIALS=${TRIALS:-}              # finished trials of all tasks together; empty: the study's own target
PYTHON=${PYTHON:-python}        # a Python with islr-search, the same on all nodes
PATIENCE=${PATIENCE:-90}        # seconds allowed for the epoch in progress; less than the number after `TERM@`
RESTARTS=${RESTARTS:-20}        # restarts after which a task gives up when disk or database fails
STORAGE_FILE=${STORAGE_FILE:-$HOME/.islr-search-storage} # contains the database URL, if SEARCH_STORAGE is not set

set -u
log() { printf '%s slurm.sh: %s\n' "$(date -u +%Y-%m-%dT%H:%M:%SZ)" "$*" >&2; }
fail() {
    log "error: $*"
    exit 2
}

# A task of an array is ARRAY_TASK: the SLURM_JOB_ID of one of the tasks also stands for the whole array.
job=${SLURM_JOB_ID:-}
[ -z "${SLURM_ARRAY_JOB_ID:-}" ] || job=${SLURM_ARRAY_JOB_ID}_${SLURM_ARRAY_TASK_ID}
search=''     # process id of the search
forwarded=''  # whether this script has sent SIGTERM to the search
stopped_at='' # when this script was first asked to stop, in seconds since its start
ending=''     # the job's state, if SLURM itself is ending the job

# The job's state according to SLURM; empty if unknown.
state() { scontrol --oneliner show job "$job" 2>/dev/null | sed -n 's/.* JobState=\([A-Z_]*\).*/\1/p' | head -n 1; }

# Whether SLURM itself is ending this job (`scancel`, preemption, `scontrol requeue`, the limit). It then signals every process.
is_ending() {
    ending=$(state)
    case $ending in
    '' | RUNNING | SIGNALING) ending='' ;;
    esac
    [ -n "$ending" ]
}

forward() {
    [ -n "$search" ] || return 0 # not started yet
    forwarded=yes
    kill -TERM "$search" 2>/dev/null
}

# Handles SIGTERM. Sent to this script alone (`--signal=B:`), it is forwarded to the search. Sent by SLURM to every process, the
# search already has it, and a second one would cost the epoch in progress.
# shellcheck disable=SC2317 # called by the trap
stop() {
    if is_ending; then
        log "SLURM is ending this job ($ending)"
    else
        log "SIGTERM: the search stops after the current epoch"
        forward
    fi
    stopped_at=${stopped_at:-$SECONDS}
}

requeue() {
    trap '' TERM # SLURM signals again when it removes the job from this node
    if is_ending; then
        log "SLURM is ending this job ($ending); everything is kept: unless SLURM requeues it, submit the same job again"
    elif [ -n "$job" ] && command -v scontrol >/dev/null && scontrol requeue "$job"; then
        log "requeued $job"
    else
        log "the job could not be requeued; everything is kept: submit the same job again to continue"
    fi
}

trap stop TERM

if [ -z "${SEARCH_STORAGE:-}" ]; then
    [ -r "$STORAGE_FILE" ] || fail "no database URL: write it to $STORAGE_FILE (chmod 600), or set SEARCH_STORAGE"
    case $(stat -L -c %a "$STORAGE_FILE") in
    600 | 400) ;;
    *) fail "other users can read $STORAGE_FILE: run chmod 600 $STORAGE_FILE" ;;
    esac
    SEARCH_STORAGE=$(head -n 1 "$STORAGE_FILE")
    export SEARCH_STORAGE # not passed as an argument, which every user of the node can see
fi
[ -n "${SEARCH_RUNS:-}" ] || fail "set and export SEARCH_RUNS, a folder that all nodes share"
[ -n "${SEARCH_DATA:-}" ] || fail "set and export SEARCH_DATA, the folder of the data set, the same on all nodes"

log "${job:-no job} on $(uname -n), restarts so far: ${SLURM_RESTART_COUNT:-0}"
code=143
if [ -z "$stopped_at" ]; then
    "$PYTHON" -m search run "$STUDY" ${TRIALS:+--trials "$TRIALS"} --no-progress "$@" &
    search=$!
    [ -z "$stopped_at" ] || [ -n "$forwarded" ] || forward # SIGTERM came while the search was being started
    given_up=''
    while kill -0 "$search" 2>/dev/null; do
        late=$((SECONDS - ${stopped_at:-$SECONDS} - PATIENCE))
        if [ -n "$stopped_at" ] && [ "$late" -ge 0 ] && [ -z "$given_up" ]; then
            log "the epoch takes longer than $PATIENCE s and is given up"
            given_up=yes
            forward # a second signal ends the search immediately
        elif [ -n "$given_up" ] && [ "$late" -ge 5 ]; then
            kill -KILL "$search" 2>/dev/null
        fi
        sleep 1 &
        wait $! # interrupted by a signal
    done
    wait "$search"
    code=$?
fi

log "the search ended with $code"
case $code in
143) # stopped by SIGTERM, everything is kept
    requeue
    ;;
3 | 134 | 135 | 137 | 139) # disk, database or memory failed, or the process was killed or crashed: a retry may succeed
    if [ -n "$stopped_at" ] || [ "${SLURM_RESTART_COUNT:-0}" -lt "$RESTARTS" ]; then
        requeue
    else
        log "not requeued: there were already $RESTARTS restarts"
    fi
    ;;
esac
exit "$code"
