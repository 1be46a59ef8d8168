"""Run tensors on the best engine this device has. Knows no images, tasks or HTTP."""
