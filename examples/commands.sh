#!/usr/bin/env bash
# The commands on the model that ships with bot-onnx: examples/commands.sh FOLDER
set -euo pipefail
cd "$1"
bot-onnx demo --keep . > demo.txt     # leaves a shrunk and a grown model here
source=digits-vit-large.onnx
bot-onnx inspect "$source" --json > inspected.json
bot-onnx resize "$source" --layers 2 --plan-out plan.json -o small.onnx
bot-onnx verify small.onnx --against "$source"
bot-onnx resize "$source" --plan plan.json -o again/small.onnx --quiet
cmp small.onnx again/small.onnx       # the same bytes
