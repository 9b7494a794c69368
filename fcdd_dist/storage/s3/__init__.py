"""S3 and what speaks its language: AWS, MinIO, Ceph, SeaweedFS. boto3 is imported when something is first asked for."""

from .store import S3Store, open_s3

__all__ = ["S3Store", "open_s3"]
