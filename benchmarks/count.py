"""Count the package: files, lines, functions, templates and the tests' ratio; exit 1 where a limit is passed.

python benchmarks/count.py
"""

from __future__ import annotations

import ast
import sys
from pathlib import Path
from statistics import median

ROOT = Path(__file__).parents[1]
LIMITS = {
    "files": 75,
    "lines": 14_000,
    "template lines": 1_000,
    "longest file": 450,
    "longest function": 60,
    "median function": 9,
}
"""What the rebuilding promised (docs/decisions/0013-rebuilding.md)."""


def lines_of(path: Path) -> int:
    return len(path.read_text(encoding="utf-8").splitlines())


def functions_of(path: Path) -> dict[str, int]:
    """Return the lines of each function of a file without its docstring, by `file:function`."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    lengths = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            first = node.body[0]
            documented = isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant)
            docstring = first.end_lineno - first.lineno + 1 if documented else 0
            lengths[f"{path.name}:{node.name}:{node.lineno}"] = node.end_lineno - node.lineno + 1 - docstring
    return lengths


def count(root: Path) -> dict[str, float]:
    """Return the counts of a checkout, and print where the longest file and function are."""
    sources = sorted((root / "src").rglob("*.py"))
    templates = [path for ending in ("*.html", "*.j2") for path in (root / "src").rglob(ending)]
    functions = {name: size for path in sources for name, size in functions_of(path).items()}
    sizes = {str(path.relative_to(root)): lines_of(path) for path in sources}
    tests = sum(map(lines_of, (root / "tests").rglob("*.py")))
    print(f"longest file: {max(sizes, key=sizes.get)}; longest function: {max(functions, key=functions.get)}")
    return {
        "files": len(sources),
        "lines": sum(sizes.values()),
        "template lines": sum(map(lines_of, templates)),
        "longest file": max(sizes.values()),
        "functions": len(functions),
        "longest function": max(functions.values()),
        "median function": median(functions.values()),
        "lines of tests": tests,
        "tests ratio": round(tests / sum(sizes.values()), 2),
    }


def main() -> int:
    counts = count(ROOT)
    for name, value in counts.items():
        limit = f"  (at most {LIMITS[name]:,})" if name in LIMITS else ""
        print(f"{name:>17} {value:>9,}{limit}")
    passed = [name for name, limit in LIMITS.items() if counts[name] > limit]
    if passed:
        print(f"over the limit: {', '.join(passed)}")
    return 1 if passed else 0


if __name__ == "__main__":
    sys.exit(main())
