"""Integers only: sizes of a U-Net, windows of tiles, and the rules that they must obey."""

from napari_shiftseg.geometry.backoff import narrower_stream, smaller_plan
from napari_shiftseg.geometry.blocks import Block, BlockGrid
from napari_shiftseg.geometry.cost import Cost, LayerCost, layer_costs, network_cost, plan_cost
from napari_shiftseg.geometry.methods import METHODS, Method, MethodCost, choose_method, describe_methods
from napari_shiftseg.geometry.naive import NAIVE, Naive, naive_plan
from napari_shiftseg.geometry.passes import Pass
from napari_shiftseg.geometry.plan import Tile, TilePlan, Window, plan_part, plan_tiles
from napari_shiftseg.geometry.rules import Trained, Violation, violations
from napari_shiftseg.geometry.spec import UNetSpec
from napari_shiftseg.geometry.stream_plan import StreamPlan, Strip, plan_stream

__all__ = [
    "METHODS",
    "NAIVE",
    "Block",
    "BlockGrid",
    "Cost",
    "LayerCost",
    "Method",
    "MethodCost",
    "Naive",
    "Pass",
    "StreamPlan",
    "Strip",
    "Tile",
    "TilePlan",
    "Trained",
    "UNetSpec",
    "Violation",
    "Window",
    "choose_method",
    "describe_methods",
    "layer_costs",
    "naive_plan",
    "narrower_stream",
    "network_cost",
    "plan_cost",
    "plan_part",
    "plan_stream",
    "plan_tiles",
    "smaller_plan",
    "violations",
]
