"""An example of each response, for the schema. A test checks them against their schemas."""

from __future__ import annotations

from typing import Any

NOW, LATER = "2026-11-20T14:02:11.041Z", "2026-11-20T14:02:19.377Z"
MODEL = "0d1c2f8a-6a5f-4c5e-9f0e-5a3b1c7d9e21"
JOB = "7f4a1c1e-3f0b-4a52-9d53-1b1d2a5c8e90"
NOVA = "amazon.nova-lite-v1:0"

PAGINATION = {"page": 1, "limit": 20, "total": 1, "totalPages": 1}
FIX = {
    "text": "Request access to this model in the region.",
    "command": "aws bedrock get-foundation-model-availability "
    "--region us-east-1 --model-id amazon.nova-lite-v1:0",
    "who": "AWS account administrator",
    "url": "https://docs.aws.amazon.com/bedrock/latest/userguide/model-access.html",
    "wait": "",
}
RUN = {
    "id": "b3f0c7a2-52ab-4a86-9a5e-0d7e7a1f2c33",
    "modelId": MODEL,
    "region": "us-east-1",
    "status": "COMPLETED",
    "verdict": "permission_required",
    "passed": False,
    "score": None,
    "rating": None,
    "route": NOVA,
    "endpoint": "bedrock-runtime",
    "api": "converse",
    "duration": 412,
    "startedAt": NOW,
    "completedAt": LATER,
    "errorMessage": "The account has no access to this model in us-east-1.",
    "errorCategory": "MODEL_ACCESS",
    "errorReason": "model_access_not_granted",
    "fix": FIX,
    "attempts": 1,
    "model": {"id": MODEL, "name": "Nova Lite", "apiModelId": NOVA},
}
JOB_SUMMARY = {
    "id": JOB,
    "type": "SINGLE_MODEL",
    "status": "COMPLETED",
    "regions": ["us-east-1"],
    "modelIds": [MODEL],
    "totalModels": 1,
    "processedModels": 1,
    "successCount": 0,
    "failureCount": 1,
    "cancelledCount": 0,
    "progress": 100,
    "tier": "full",
    "priority": "interactive",
    "backend": "aws",
    "note": "",
    "startedAt": NOW,
    "completedAt": LATER,
    "duration": 8336,
    "createdAt": NOW,
    "updatedAt": LATER,
    "createdBy": "ana@example.org",
    "estimatedCostUsd": 0.0021,
    "costUsd": 0.000018,
}
ACCOUNT = {"id": "12", "email": "ana@example.org", "name": "Ana", "role": "operator"}

CERTIFICATION = {
    "id": "3",
    "modelId": NOVA,
    "modelUuid": MODEL,
    "modelName": "Nova Lite",
    "vendor": "Amazon",
    "providerId": "bedrock",
    "region": "us-east-1",
    "regionName": "US East (N. Virginia)",
    "offered": True,
    "status": "certified",
    "previousStatus": "not_tested",
    "passed": True,
    "score": 93,
    "rating": "A",
    "badge": "/badges/amazon.nova-lite-v1:0/us-east-1.svg",
    "successRate": 100.0,
    "testsPassed": 41,
    "testsFailed": 0,
    "attempts": 1,
    "avgLatencyMs": 446.1,
    "ttftMs": 362.0,
    "tokensPerSecond": 118.4,
    "errorMessage": None,
    "errorCategory": None,
    "errorReason": None,
    "fix": None,
    "heldBack": None,
    "confirmAfter": None,
    "certifiedAt": LATER,
    "expiresAt": "2026-12-20T14:02:19.377Z",
    "isExpired": False,
    "lastTestedAt": LATER,
    "tier": "full",
    "backend": "aws",
    "endpoint": "bedrock-runtime",
    "api": "converse",
    "runId": RUN["id"],
    "jobId": JOB,
    "activeRun": None,
    "createdAt": NOW,
    "updatedAt": LATER,
}
ON_RUNTIME = {"endpoint": "bedrock-runtime", "api": "converse", "pathPrefix": ""}
ROUTE = {"kind": "ON_DEMAND", "targetId": NOVA, **ON_RUNTIME}
USABLE = {
    "usable": True,
    "status": "certified",
    "model": NOVA,
    "region": "us-east-1",
    "route": ROUTE,
    "score": 93,
    "rating": "A",
    "reason": "Certified on 2026-11-20 with score 93 (A).",
    "errorReason": None,
    "fix": None,
    "certifiedAt": LATER,
    "validUntil": "2026-12-20T14:02:19.377Z",
    "backend": "aws",
    "certifiedBy": {"endpoint": "bedrock-runtime", "api": "converse"},
    "alternatives": [
        {
            "model": NOVA,
            "modelName": "Nova Lite",
            "region": "eu-west-3",
            "score": 91,
            "rating": "A",
            "route": {
                "kind": "INFERENCE_PROFILE",
                "targetId": "eu.amazon.nova-lite-v1:0",
                **ON_RUNTIME,
            },
            "validUntil": "2026-12-20T14:03:00.112Z",
            "backend": "aws",
        }
    ],
}
# By the name of the type.
ANSWERS: dict[str, Any] = {
    "Pagination": PAGINATION,
    "Fix": FIX,
    "Run": RUN,
    "JobSummary": JOB_SUMMARY,
    "Job": {**JOB_SUMMARY, "certifications": [RUN]},
    "Account": ACCOUNT,
    "LoggedIn": {"token": "eyJhbGciOiJIUzI1NiIs...", "user": ACCOUNT},
    "StartedOne": {
        "jobId": JOB,
        "bullJobId": JOB,
        "modelId": NOVA,
        "region": "us-east-1",
        "status": "QUEUED",
    },
    "StartedSeveral": {
        "jobId": JOB,
        "totalJobs": 1,
        "modelIds": [NOVA],
        "regions": ["us-east-1", "us-west-2"],
        "status": "QUEUED",
        "skipped": [{"modelId": NOVA, "region": "us-west-2"}],
    },
    "StartedAll": {
        "jobId": JOB,
        "totalJobs": 96,
        "regions": ["us-east-1"],
        "status": "QUEUED",
        "skipped": [],
        "notOffered": 34,
    },
    "Certification": CERTIFICATION,
    "CertificationPage": {"certifications": [CERTIFICATION], "pagination": PAGINATION},
    "Usable": USABLE,
    "AwsStatus": {
        "configured": True,
        "valid": True,
        "message": "AWS Bedrock answers in us-east-1 and lists 133 models.",
        "region": "us-east-1",
        "modelsAvailable": 133,
        "accessKeyPreview": "AKIA...",
        "backend": "aws",
        "error": None,
        "errorReason": None,
    },
    "Cancelled": {"jobId": JOB, "status": "CANCELLED", "cancelled": 3},
    "Fail": {
        "status": "fail",
        "message": "body.regions: mars-1 is not a region.",
        "code": 400,
        "errorCode": "invalid_request",
        "data": {
            "validation": [
                {
                    "path": "body.regions",
                    "message": "Unknown region: mars-1.",
                    "code": "region_not_found",
                }
            ]
        },
    },
    "Trouble": {
        "status": "error",
        "message": "The database does not answer at the moment. Try again in a few seconds.",
        "code": 503,
        "requestId": "4f5a0f6e-8f6d-4a53-a6bb-4d2cf1b1d1f0",
    },
}
# By the name of the form.
BODIES: dict[str, Any] = {
    "LoginRequest": {"email": "ana@example.org", "password": "correct horse battery staple"},
    "NewPasswordRequest": {
        "oldPassword": "correct horse battery staple",
        "newPassword": "another long secret",
    },
    "LogLineRequest": {"level": "warn", "message": "Token not found", "component": "console"},
    "SettingsRequest": {
        "theme": "dark",
        "awsRegion": "us-east-1",
        "awsEnabledModels": [NOVA],
    },
    "OneRequest": {"modelId": NOVA, "region": "us-east-1", "tier": "full"},
    "SeveralRequest": {
        "modelIds": [NOVA, MODEL],
        "regions": ["us-east-1", "us-west-2"],
        "maxCostUsd": 5,
    },
    "EverythingRequest": {
        "regions": ["us-east-1", "eu-west-1"],
        "tier": "quick",
        "includeUnlisted": False,
    },
}


def attach(result: dict[str, Any], **_context: Any) -> dict[str, Any]:
    """Add each example to its schema: a postprocessing hook of drf-spectacular."""
    for name, component in result["components"]["schemas"].items():
        example = ANSWERS.get(name, BODIES.get(name))
        if example is not None:
            component["examples"] = [example]
    return result
