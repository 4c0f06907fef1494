#!/usr/bin/env bash
# One search by several jobs of SLURM: an array whose tasks share a study, and queue themselves anew before their time is up.
#
#     STUDY=letters TRIALS=200 sbatch --array=0-7 --time=4:00:00 studies/cluster/slurm.sh --workers 2
#
# What stands behind the script's name goes to `python -m search run`. README.md, beside this file, tells the rest.

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

STUDY=${STUDY:-label_smoothing} # a study's name, or its file
TRIALS=${TRIALS:-}              # target of finished trials, all tasks together; empty: the study's
PYTHON=${PYTHON:-python}        # with islr-search installed, the same on all nodes
PATIENCE=${PATIENCE:-90}        # seconds for the epoch in progress; less than what stands behind `TERM@`
RESTARTS=${RESTARTS:-20}        # a task that has begun anew so often stops trying when disk or database fails
STORAGE_FILE=${STORAGE_FILE:-$HOME/.islr-search-storage} # holds the database's URL where SEARCH_STORAGE is not set

set -u
say() { printf '%s slurm.sh: %s\n' "$(date -u +%Y-%m-%dT%H:%M:%SZ)" "$*" >&2; }
refuse() {
    say "error: $*"
    exit 2
}

# A task of an array is named ARRAY_TASK: with SLURM_JOB_ID alone, that of one of them also means the whole array.
job=${SLURM_JOB_ID:-}
[ -z "${SLURM_ARRAY_JOB_ID:-}" ] || job=${SLURM_ARRAY_JOB_ID}_${SLURM_ARRAY_TASK_ID}
search='' # the search's process
told=''   # whether it was told to stop by this script
asked=''  # when this script was asked to stop, in seconds of its own
ending='' # the state in which SLURM ends this job by itself

# The job's state as SLURM knows it; nothing where that cannot be found out.
state() { scontrol --oneliner show job "$job" 2>/dev/null | sed -n 's/.* JobState=\([A-Z_]*\).*/\1/p' | head -n 1; }

# Whether SLURM ends this job by itself: `scancel`, preemption, `scontrol requeue`, the limit. It then signals every process.
is_ending() {
    ending=$(state)
    case $ending in
    '' | RUNNING | SIGNALING) ending='' ;;
    esac
    [ -n "$ending" ]
}

tell() {
    [ -n "$search" ] || return 0 # not started yet
    told=yes
    kill -TERM "$search" 2>/dev/null
}

# SIGTERM. Sent to this script alone (`--signal=B:`) it is passed on; sent by SLURM to all, the search has it already, and a
# second one would cost the epoch in progress.
# shellcheck disable=SC2317 # the trap calls it
stop() {
    if is_ending; then
        say "SLURM ends this job ($ending)"
    else
        say "SIGTERM: the search stops at the end of this epoch"
        tell
    fi
    asked=${asked:-$SECONDS}
}

again() {
    trap '' TERM # what comes now is SLURM's, as it takes the job off this node
    if is_ending; then
        say "SLURM ends this job ($ending); everything is kept: where it does not queue it anew, submit the same again"
    elif [ -n "$job" ] && command -v scontrol >/dev/null && scontrol requeue "$job"; then
        say "$job is queued anew"
    else
        say "it could not be queued anew; everything is kept: to go on, submit the same again"
    fi
}

trap stop TERM

if [ -z "${SEARCH_STORAGE:-}" ]; then
    [ -r "$STORAGE_FILE" ] || refuse "no database: write its URL into $STORAGE_FILE (chmod 600), or set SEARCH_STORAGE"
    case $(stat -L -c %a "$STORAGE_FILE") in
    600 | 400) ;;
    *) refuse "others can read $STORAGE_FILE: chmod 600 $STORAGE_FILE" ;;
    esac
    SEARCH_STORAGE=$(head -n 1 "$STORAGE_FILE")
    export SEARCH_STORAGE # and not an argument: everybody on a node sees those
fi
[ -n "${SEARCH_RUNS:-}" ] || refuse "set and export SEARCH_RUNS: a folder that all nodes share"
[ -n "${SEARCH_DATA:-}" ] || refuse "set and export SEARCH_DATA: the data set's folder, the same on all nodes"

say "${job:-no job} on $(uname -n), begun anew ${SLURM_RESTART_COUNT:-0} times"
code=143
if [ -z "$asked" ]; then
    "$PYTHON" -m search run "$STUDY" ${TRIALS:+--trials "$TRIALS"} --no-progress "$@" &
    search=$!
    [ -z "$asked" ] || [ -n "$told" ] || tell # asked while it was started
    given_up=''
    while kill -0 "$search" 2>/dev/null; do
        late=$((SECONDS - ${asked:-$SECONDS} - PATIENCE))
        if [ -n "$asked" ] && [ "$late" -ge 0 ] && [ -z "$given_up" ]; then
            say "the epoch takes longer than $PATIENCE s: it is given up"
            given_up=yes
            tell # the second ends it at once
        elif [ -n "$given_up" ] && [ "$late" -ge 5 ]; then
            kill -KILL "$search" 2>/dev/null
        fi
        sleep 1 &
        wait $! # a signal cuts it short
    done
    wait "$search"
    code=$?
fi

say "the search ended with $code"
case $code in
143) # stopped by SIGTERM, everything kept
    again
    ;;
3 | 134 | 135 | 137 | 139) # disk, database or memory failed, or the process was killed or crashed; later it may work
    if [ -n "$asked" ] || [ "${SLURM_RESTART_COUNT:-0}" -lt "$RESTARTS" ]; then
        again
    else
        say "begun anew $RESTARTS times already: it is left at that"
    fi
    ;;
esac
exit "$code"
