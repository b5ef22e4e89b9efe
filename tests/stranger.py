"""Calls the services of a cluster as a stranger would, and as somebody with its token would."""

from typing import Any

import grpc
import httpx

# One call of every service that some process of a cluster offers; none of them changes anything
# with an empty request.
SERVICES = {
    "head": "NodeInfoGcsService/GetAllNodeInfo",
    "head's store": "InternalKVGcsService/InternalKVKeys",
    "jobs": "JobInfoGcsService/GetAllJobInfo",
    "node": "NodeManagerService/GetSystemConfig",
    "objects": "ObjectManagerService/Pull",
    "worker": "CoreWorkerService/GetCoreWorkerStats",
    "client server": "RayletDriver/ClusterInfo",
}
NOT_HERE = {
    "UNIMPLEMENTED",
    "UNAVAILABLE",
}  # another service lives on this port, or none that speaks gRPC


def answers(host: str, port: int, token: str | None = None) -> dict[str, str]:
    """The status that each service at host:port answers with; those that are not there are left
    out."""
    credentials = [("authorization", f"Bearer {token}")] if token else None
    found = {}
    with grpc.insecure_channel(
        f"{host}:{port}", options=[("grpc.enable_http_proxy", 0)]
    ) as channel:
        for name, method in SERVICES.items():
            try:
                call: Any = channel.unary_unary(f"/ray.rpc.{method}")  # bytes to bytes
                call(b"", timeout=5, metadata=credentials)
                found[name] = "OK"
            except grpc.RpcError as error:
                found[name] = error.code().name
    return {name: status for name, status in found.items() if status not in NOT_HERE}


def web_status(host: str, port: int, token: str | None = None) -> int | None:
    """The HTTP status of a POST to the agent that prepares workers' environments; None from what is
    no web server."""
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    try:
        address = f"http://{host}:{port}/get_or_create_runtime_env"
        return httpx.post(
            address, content=b"", headers=headers, timeout=5, trust_env=False
        ).status_code
    except httpx.HTTPError:
        return None
