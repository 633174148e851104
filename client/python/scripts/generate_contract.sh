#!/usr/bin/env bash
# Writes mnemod/contract.binpb: the descriptors of proto/mnemo/v1, from which
# the package builds its messages at run time. Run after changing a proto;
# tests/unit/client/python/contract_test.py fails when this was forgotten.
#
# Usage: generate_contract.sh [OUTPUT]
set -euo pipefail
package=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
protos=$(cd "$package/../../proto" && pwd)
output=${1:-$package/mnemod/contract.binpb}

cd "$protos"
protoc --proto_path=. --include_imports --descriptor_set_out="$output" mnemo/v1/*.proto
