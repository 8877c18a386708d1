from support.kubelet.fixtures import kubelet, short_path, start

__all__ = ["kubelet", "short_path", "start"]
