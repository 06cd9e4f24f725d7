"""Export: heads and detectors as graphs for other runtimes (ONNX, ``torch.export``)."""

from featood.pipeline.export.exporting import Export, export_detector, export_head

__all__ = ["Export", "export_detector", "export_head"]
