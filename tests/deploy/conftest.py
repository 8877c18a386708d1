from support.kubelet.fixtures import short_path

__all__ = ["short_path"]
