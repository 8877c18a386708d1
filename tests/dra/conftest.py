from support.kubelet.fixtures import kubelet, quick, short_path, start

__all__ = ["kubelet", "quick", "short_path", "start"]
