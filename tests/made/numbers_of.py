"""The numbers of a room: those of its `constants.py`, and those that stand elsewhere and should not."""

import ast
from pathlib import Path
from types import ModuleType
from typing import Any

PACKAGE = Path(__file__).resolve().parents[2] / "src" / "napari_shiftseg"
ARITHMETIC = (ast.Tuple, ast.List, ast.Dict, ast.BinOp, ast.UnaryOp, ast.operator, ast.unaryop, ast.Name, ast.expr_context)


def stated(module: ModuleType) -> dict[str, Any]:
    """Names and values of all constants of a module, arrays as lists."""
    return {
        name: value.tolist() if hasattr(value, "tolist") else value
        for name, value in vars(module).items()
        if name.lstrip("_").isupper()
    }


def beside(*modules: str) -> list[str]:
    """Numbers at the top of the modules of a room that its `constants.py` should hold."""
    found = []
    for path in (path for pattern in modules for path in sorted(PACKAGE.glob(pattern)) if path.name != "constants.py"):
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.Assign | ast.AnnAssign) and node.value is not None and is_number(node.value):
                found.append(f"{path.name}:{node.lineno} {ast.unparse(node)}")
    return found


def is_number(value: ast.expr) -> bool:
    parts = list(ast.walk(value))
    numbers = [part for part in parts if isinstance(part, ast.Constant) and type(part.value) in (int, float)]
    return bool(numbers) and all(isinstance(part, (*ARITHMETIC, ast.Constant)) for part in parts)
