"""Networks in and out: read ONNX and nn.Module; write Brevitas, QONNX, FINN, hls4ml and ONNX."""
