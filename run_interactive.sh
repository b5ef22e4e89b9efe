#!/usr/bin/env bash
# Drive a live world: starts the workers, prints a URL, streams at 16 FPS; Ctrl-C ends all of it.
#   bash run_interactive.sh [flags]          flags: see "python -m pipeline run --help"
#   NUM_GPUS_DIT=2 NUM_GPUS_VAE=6 MODEL_PATH=../models/stage4 bash run_interactive.sh
#
# Settings, here or in the environment. What is not set adapts to the machine.
# NUM_GPUS_DIT=1                   # GPUs (CPU processes where there is none) of the transformer
# NUM_GPUS_VAE=3                   # ... and of the decoder
# MODEL_PATH="../models/stage4"    # seen from the current folder, else from pipeline/
set -euo pipefail

root="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)"

# Only digits may reach shell arithmetic, which would run what it is given.
for name in NUM_GPUS_DIT NUM_GPUS_VAE; do
    if [[ -n "${!name:-}" && ! "${!name}" =~ ^[1-9][0-9]{0,2}$ ]]; then
        printf 'error: %s: expected a whole number from 1 to 999, got %q\n' "$name" "${!name}" >&2
        exit 2
    fi
done

# The pool of GPUs: what CUDA_VISIBLE_DEVICES allows, else all there are.
pool=()
if [[ -n "${CUDA_VISIBLE_DEVICES+set}" ]]; then
    IFS=, read -r -a pool <<< "$CUDA_VISIBLE_DEVICES"
elif command -v nvidia-smi > /dev/null; then
    while read -r index; do pool+=("$index"); done < <(nvidia-smi --query-gpu=index --format=csv,noheader 2> /dev/null)
fi

# The transformer takes the first GPUs, the decoder the next ones. Too few: python says so.
if ((${#pool[@]} > 1)); then
    dit="${NUM_GPUS_DIT:-1}"
    spare=$((${#pool[@]} - dit))
    vae="${NUM_GPUS_VAE:-$((spare > 3 ? 3 : spare > 0 ? spare : 1))}"
    if ((dit + vae <= ${#pool[@]})); then
        GPU_IDS="$(seq -s, "$dit" $((dit + vae - 1)))"
        CUDA_VISIBLE_DEVICES="$(IFS=,; printf '%s' "${pool[*]:0:dit+vae}")"
        export GPU_IDS CUDA_VISIBLE_DEVICES
    fi
fi
export PYTORCH_CUDA_ALLOC_CONF="${PYTORCH_CUDA_ALLOC_CONF:-expandable_segments:True}"
for name in NUM_GPUS_DIT NUM_GPUS_VAE MODEL_PATH; do
    if [[ -n "${!name:-}" ]]; then export "${name?}"; fi
done

# Files are named from where you are; the packages come from here. exec: signals go straight to python.
export PYTHONPATH="$root${PYTHONPATH:+:$PYTHONPATH}"
exec "$(command -v python || command -v python3)" -P -m pipeline run "$@"
