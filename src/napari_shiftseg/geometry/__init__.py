"""Integers only: sizes of a U-Net, windows of tiles, the rules that they must obey, and what a training covers."""

from napari_shiftseg.geometry.blocks import Block, BlockGrid
from napari_shiftseg.geometry.cost import Cost, describe_methods, layer_costs, network_cost, plan_cost
from napari_shiftseg.geometry.coverage import Coverage, Trained, Zeros, coverage, inner_part
from napari_shiftseg.geometry.lattice import Lattice, Output, channel_count, named_outputs, value_count
from napari_shiftseg.geometry.naive import NAIVE, Naive, naive_plan
from napari_shiftseg.geometry.part import plan_part, smaller_plan
from napari_shiftseg.geometry.plan import Pass, Tile, TilePlan, Window, plan_again, plan_tiles
from napari_shiftseg.geometry.rules import Judgement, Ruling, Violation, judge, violations
from napari_shiftseg.geometry.scaling import AxisScaling, Scaling, nearest_factor, scaled_lattice
from napari_shiftseg.geometry.spec import Layer, UNetSpec, as_lattice
from napari_shiftseg.geometry.stream_plan import (
    METHODS,
    Method,
    StreamPlan,
    Strip,
    choose_method,
    narrower_stream,
    plan_stream,
)
from napari_shiftseg.geometry.turning import Turn, Turning, turned_lattice

__all__ = [
    "METHODS",
    "NAIVE",
    "AxisScaling",
    "Block",
    "BlockGrid",
    "Cost",
    "Coverage",
    "Judgement",
    "Lattice",
    "Layer",
    "Method",
    "Naive",
    "Output",
    "Pass",
    "Ruling",
    "Scaling",
    "StreamPlan",
    "Strip",
    "Tile",
    "TilePlan",
    "Trained",
    "Turn",
    "Turning",
    "UNetSpec",
    "Violation",
    "Window",
    "Zeros",
    "as_lattice",
    "channel_count",
    "choose_method",
    "coverage",
    "describe_methods",
    "inner_part",
    "judge",
    "layer_costs",
    "naive_plan",
    "named_outputs",
    "narrower_stream",
    "nearest_factor",
    "network_cost",
    "plan_again",
    "plan_cost",
    "plan_part",
    "plan_stream",
    "plan_tiles",
    "scaled_lattice",
    "smaller_plan",
    "turned_lattice",
    "value_count",
    "violations",
]
