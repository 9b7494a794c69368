"""infra/aws: who may do what in the bucket and with machines, no more and no less than the software does."""

import ast
import json
from pathlib import Path

import botocore.loaders
import botocore.model
import botocore.validate
import pytest
import yaml

from tests.support.changed import GONE, changed
from tests.support.iam import actions, allowed

ROOT = Path(__file__).parents[2]
AWS = ROOT / "infra/aws"
POLICIES = {name: json.loads((AWS / f"iam/{name}.json").read_text()) for name in ("data", "image", "head", "user")}
ROLES = {"head": ("data", "image", "head"), "worker": ("data", "image"), "pod": ("data",), "user": ("data", "user")}
BUCKET = "arn:aws:s3:::example-fcdd"
EC2 = "arn:aws:ec2:eu-central-1:123456789012"
INSTANCE, IAM = f"{EC2}:instance/i-0", "arn:aws:iam::123456789012"
OURS = {"aws:RequestTag/ray-cluster-name": "fcdd"}
RUNNING = {"ec2:ResourceTag/ray-cluster-name": "fcdd"}
TO_EC2 = {"iam:PassedToService": "ec2.amazonaws.com"}
NEEDED_BY = {  # what S3 wants for each call of the software
    "put_object": "s3:PutObject", "create_multipart_upload": "s3:PutObject", "upload_part": "s3:PutObject",
    "complete_multipart_upload": "s3:PutObject", "abort_multipart_upload": "s3:AbortMultipartUpload",
    "get_object": "s3:GetObject", "head_object": "s3:GetObject", "delete_object": "s3:DeleteObject",
    "list_objects_v2": "s3:ListBucket", "list_multipart_uploads": "s3:ListBucketMultipartUploads",
    "list_parts": "s3:ListMultipartUploadParts"}


def may(role, action, resource, context=None, policies=POLICIES):
    return allowed([policies[name] for name in ROLES[role]], action, resource, context)


def test_the_rights_to_the_bucket_are_those_that_the_software_uses():
    used = {node.func.attr for path in (ROOT / "fcdd_dist/storage/s3").glob("*.py")
            for node in ast.walk(ast.parse(path.read_text()))
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)
            and isinstance(node.func.value, ast.Name) and node.func.value.id == "client"}
    assert used == NEEDED_BY.keys()
    s3 = {action for action in actions(*POLICIES.values()) if action.startswith("s3:")}
    assert s3 == set(NEEDED_BY.values())
    finding = {"s3:ListBucketMultipartUploads", "s3:ListMultipartUploadParts"}  # `clean` alone, which people run
    assert actions(POLICIES["data"]) == s3 - finding


@pytest.mark.parametrize("role", ROLES)
@pytest.mark.parametrize("prefix", ["data", "runs"])
@pytest.mark.parametrize("action", ["GetObject", "PutObject", "DeleteObject", "AbortMultipartUpload"])
def test_all_read_and_write_data_sets_and_runs_and_nothing_else(role, prefix, action):
    assert may(role, f"s3:{action}", f"{BUCKET}/{prefix}/x")
    for elsewhere in (f"{BUCKET}/other/x", f"{BUCKET}/{prefix}", f"{BUCKET}-2/{prefix}/x"):
        assert not may(role, f"s3:{action}", elsewhere)


START, PARTS = "ec2:RunInstances", [f"{EC2}:subnet/subnet-0123456789abcdef0", f"{EC2}:volume/vol-0",
                                    "arn:aws:ec2:eu-central-1::image/ami-0123456789abcdef0"]
RIGHTS = [  # who alone may, what, where, and what the request tells
    ({"head"}, START, INSTANCE, OURS | {"ec2:InstanceType": "g5.xlarge"}),
    ({"head"}, START, INSTANCE, OURS | {"ec2:InstanceType": "c7i.4xlarge"}),
    ({"user"}, START, INSTANCE, OURS | {"ec2:InstanceType": "m7i.large"}),
    (set(), START, INSTANCE, OURS | {"ec2:InstanceType": "p5.48xlarge"}),
    (set(), START, INSTANCE, {"ec2:InstanceType": "g5.xlarge"}),  # without the tag, by which all else is held
    *(({"head", "user"}, START, part, None) for part in PARTS),
    (set(), START, "arn:aws:ec2:eu-central-1::image/ami-1", None),
    ({"head", "user"}, "ec2:CreateTags", INSTANCE, {"ec2:CreateAction": START.partition(":")[2]}),
    ({"head", "user"}, "ec2:CreateTags", INSTANCE, RUNNING),
    (set(), "ec2:CreateTags", INSTANCE, None),  # else any machine could be made one of ours
    ({"head", "user"}, "ec2:TerminateInstances", INSTANCE, RUNNING),
    (set(), "ec2:TerminateInstances", INSTANCE, {"ec2:ResourceTag/ray-cluster-name": "another"}),
    ({"head", "user"}, "ec2:DescribeInstances", "*", None),
    ({"user"}, "ec2:DescribeSubnets", "*", None),
    ({"head"}, "iam:PassRole", f"{IAM}:role/fcdd-worker", TO_EC2),
    ({"user"}, "iam:PassRole", f"{IAM}:role/fcdd-head", TO_EC2),
    (set(), "iam:PassRole", f"{IAM}:role/admin", TO_EC2),
    (set(), "iam:PassRole", f"{IAM}:role/fcdd-worker", {"iam:PassedToService": "lambda.amazonaws.com"}),
    ({"head"}, "ssmmessages:OpenDataChannel", "*", None),
    ({"user"}, "ssm:StartSession", INSTANCE, {"ssm:resourceTag/ray-cluster-name": "fcdd"}),
    (set(), "ssm:StartSession", INSTANCE, None),
    ({"head", "worker", "user"}, "ecr:GetAuthorizationToken", "*", None),
    ({"head", "worker"}, "ecr:GetDownloadUrlForLayer",
     "arn:aws:ecr:eu-central-1:123456789012:repository/fcdd-dist", None),
    ({"user"}, "ecr:PutImage", "arn:aws:ecr:eu-central-1:123456789012:repository/fcdd-dist", None),
    ({"user"}, "s3:ListBucketMultipartUploads", BUCKET, None),
    (set(ROLES), "s3:ListBucket", BUCKET, None),  # without a prefix, too: Ray asks for HeadBucket
    (set(), "s3:DeleteBucket", BUCKET, None),
    (set(), "iam:CreateRole", f"{IAM}:role/x", None),
]


@pytest.mark.parametrize(("who", "action", "resource", "context"), RIGHTS)
def test_who_may_do_what(who, action, resource, context):
    assert {role for role in ROLES if may(role, action, resource, context)} == who


@pytest.mark.parametrize(("role", "path", "value", "action", "resource", "context"), [
    ("head", "Statement 0 Condition StringEquals ec2:InstanceType", GONE, START, INSTANCE, OURS),
    ("head", "Statement 1 Resource", "*", START, "arn:aws:ec2:eu-central-1::image/ami-1", None),
    ("head", "Statement 3 Condition", GONE, "ec2:TerminateInstances", INSTANCE, None),
    ("head", "Statement 5 Resource", "*", "iam:PassRole", f"{IAM}:role/admin", TO_EC2),
    ("user", "Statement 6 Condition", GONE, "ssm:StartSession", INSTANCE, None),
    ("user", "Statement 11 Action", "ecr:*", "ecr:DeleteRepository",
     "arn:aws:ecr:eu-central-1:123456789012:repository/fcdd-dist", None),
])
def test_a_right_too_many_is_seen(role, path, value, action, resource, context):
    assert not may(role, action, resource, context)
    assert may(role, action, resource, context, POLICIES | {role: changed(POLICIES[role], path, value)})


def test_policies_name_no_action_by_a_pattern():
    assert [action for action in actions(*POLICIES.values()) if "*" in action] == []


def test_the_policies_agree_with_the_cluster():
    cluster = yaml.safe_load((AWS / "cluster.yaml").read_text())
    for name, node in cluster["available_node_types"].items():
        ec2 = node["node_config"]
        is_head = name == cluster["head_node_type"]
        starts, other = ("user", "head") if is_head else ("head", "user")
        request = {"aws:RequestTag/ray-cluster-name": cluster["cluster_name"], "ec2:InstanceType": ec2["InstanceType"]}
        assert may(starts, START, INSTANCE, request)
        assert not may(other, START, INSTANCE, request)
        profile = ec2["IamInstanceProfile"]["Arn"].partition(":instance-profile/")[2]
        assert may(starts, "iam:PassRole", f"{IAM}:role/{profile}", TO_EC2)
        for part in (f"{EC2.removesuffix('123456789012')}:image/{ec2['ImageId']}", f"{EC2}:key-pair/{ec2['KeyName']}",
                     *(f"{EC2}:subnet/{each}" for each in ec2["SubnetIds"]),
                     *(f"{EC2}:security-group/{each}" for each in ec2["SecurityGroupIds"])):
            assert may(starts, START, part), part


@pytest.fixture(scope="module")
def s3_model():
    return botocore.model.ServiceModel(botocore.loaders.Loader().load_service_model("s3", "service-2"), "s3")


def lifecycle_problems(rules, s3_model):
    shape = s3_model.operation_model("PutBucketLifecycleConfiguration").input_shape
    request = {"Bucket": "example-fcdd", "LifecycleConfiguration": rules}
    return botocore.validate.ParamValidator().validate(request, shape).generate_report().splitlines()


def test_the_lifecycle_ends_unfinished_uploads_and_nothing_else(s3_model):
    rules = json.loads((AWS / "bucket-lifecycle.json").read_text())
    assert lifecycle_problems(rules, s3_model) == []
    (rule,) = rules["Rules"]
    assert rule["Status"] == "Enabled"
    assert rule.keys() == {"ID", "Status", "Filter", "AbortIncompleteMultipartUpload"}
    (found,) = lifecycle_problems(changed(rules, "Rules 0 AbortIncompleteMultipartUpload", {"Days": 7}), s3_model)
    assert 'Unknown parameter in LifecycleConfiguration.Rules[0].AbortIncompleteMultipartUpload: "Days"' in found


def test_the_bucket_refuses_what_is_not_encrypted():
    (statement,) = json.loads((AWS / "bucket-policy.json").read_text())["Statement"]
    assert (statement["Effect"], statement["Principal"], statement["Action"]) == ("Deny", "*", "s3:*")
    assert statement["Resource"] == [BUCKET, f"{BUCKET}/*"]
    assert statement["Condition"] == {"Bool": {"aws:SecureTransport": "false"}}


def test_only_ec2_takes_these_roles():
    (statement,) = json.loads((AWS / "iam/trust.json").read_text())["Statement"]
    assert statement == {"Effect": "Allow", "Principal": {"Service": "ec2.amazonaws.com"}, "Action": "sts:AssumeRole"}
