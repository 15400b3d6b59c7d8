#!/bin/sh
# Locks the packages of the image: writes image.txt and torch-cuda.txt beside this file, every version with its hashes.
#
#     pip install uv && sh infra/requirements/compile.sh              # after a change of pyproject.toml
#     sh infra/requirements/compile.sh --upgrade                      # all packages to their newest allowed releases
#
# Versions that the lists name stay while pyproject.toml allows them. After torch has changed, change torch-cpu.txt too.
set -eu
cd "$(dirname "$0")/../.."
lists=infra/requirements

# For the image's Python and its C library (Ubuntu 24.04). Wheels only, because a build is not covered by a hash.
compile() {
    uv pip compile --quiet --python-version 3.12 --python-platform x86_64-manylinux_2_39 --only-binary :all: \
        --generate-hashes --no-annotate --custom-compile-command "sh $lists/compile.sh" "$@"
}

compile "$lists/torch.in" --output-file "$lists/torch-cuda.txt" "$@"

# The CPU variant takes another build of torch, without CUDA's libraries; opencv-python-headless replaces opencv-python,
# which needs the libraries of a display.
left_out=$(sed -n -E 's/^((torch|torchvision|triton|cuda-[a-z]+|nvidia-[a-z0-9-]+))==.*/--no-emit-package \1/p' "$lists/torch-cuda.txt")
# shellcheck disable=SC2086  # each line is two words
compile pyproject.toml "$lists/image.in" --extra fid --extra heic --extra pretrained \
    --constraint "$lists/torch-cuda.txt" --no-emit-package opencv-python $left_out --output-file "$lists/image.txt" "$@"
