#!/usr/bin/env bash
# Does the whole runtime resolve for arm64 on each JetPack's Python, from wheels alone? Prints the versions as a Markdown table.
# Without pycuda: it has no arm64 wheel and is built on the board by jetson/setup.sh. JetPack brings tensorrt and cv2.
# Keep the answer: jetson/arm64/resolve.sh > jetson/arm64/resolved.md
set -euo pipefail

cd "$(dirname "$0")/../.."
PYTHON=${PYTHON:-python3}
TMP=$(mktemp -d)
trap 'rm -rf "$TMP"' EXIT

die() {
  echo "resolve: $*" >&2
  exit 1
}

# resolve JETPACK PYTHON GLIBC_MINOR
resolve() {
  "$PYTHON" jetson/arm64/cross_pip.py --python "$2" --glibc "$3" --extra tensorrt --extra preview --without pycuda "$WHEEL" -- \
    install -qq --dry-run --ignore-installed --target "$TMP/none" --constraint "jetson/constraints-jp$1.txt" --report "$TMP/$1.json" >&2 ||
    die "JetPack $1 (Python $2, glibc 2.$3) does not resolve; pip's words are above"
}

"$PYTHON" -m pip wheel -qq --no-deps --wheel-dir "$TMP" . || die "the package does not build"
WHEEL=$(echo "$TMP"/edgeseg-*.whl)
resolve 5 3.8.10 31
resolve 6 3.10.12 35
resolve 7 3.12.3 39
"$PYTHON" - "$TMP" <<'END'
import json
import sys

from pip._vendor.packaging.specifiers import SpecifierSet

columns = {"5": ("JetPack 5", "3.8.10"), "6": ("JetPack 6", "3.10.12"), "7": ("JetPack 7", "3.12.3")}
versions = {}
for jetpack, (name, python) in columns.items():
    with open(f"{sys.argv[1]}/{jetpack}.json") as report:
        found = [item["metadata"] for item in json.load(report)["install"]]
    # `pip install` compares Requires-Python with the host's Python where the index does not state it.
    for item in found:
        if not SpecifierSet(item.get("requires_python", "")).contains(python):
            sys.exit(f"resolve: {name} needs Python {python}, but {item['name']} {item['version']} wants "
                     f"{item['requires_python']}; the index used does not state Requires-Python")
    versions[jetpack] = {item["name"].lower().replace("_", "-"): item["version"] for item in found}
print("# What pip resolves for arm64\n")
print("`jetson/arm64/resolve.sh` wrote this: `edgeseg[tensorrt,preview]` from wheels alone, under each JetPack's constraints.")
print("pycuda is not in it (built on the board); `tensorrt` and `cv2` come with JetPack.\n")
heads = [f"{name}, Python {python}" for name, python in columns.values()]
print("| package |", " | ".join(heads), "|\n|---|---|---|---|")
for name in sorted(set().union(*versions.values())):
    print(f"| {name} |", " | ".join(versions[jetpack].get(name, "") for jetpack in columns), "|")
END
