"""The fix for each reason: one sentence, a command or policy if there is one, who must act, and how
long it takes.

Sentences are constants marked for translation: they are stored in English and translated where
they are shown. Commands name the model and region
where they are known, else `<model-id>` and `<region>`. No account id is ever shown.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, replace

from certification.bedrock.credentials import Credential
from certification.reasons import Reason


def gettext_noop(text: str) -> str:
    """Mark a text for translation, and leave it as it is: nothing here knows Django."""
    return text


_ = gettext_noop

OPERATOR = "operator"
ACCOUNT_ADMIN = "AWS account administrator"
ORGANIZATION_ADMIN = "AWS organization administrator"
NETWORK_ADMIN = "network administrator"
GATEWAY_OWNER = "gateway owner"
AWS_SUPPORT = "AWS Support, asked by the account administrator"
NOBODY = "nobody"

_GUIDE = "https://docs.aws.amazon.com/bedrock/latest/userguide/"
_ERRORS = _GUIDE + "troubleshooting-api-error-codes.html"
_QUOTAS = _GUIDE + "quotas.html"
_LIFECYCLE = _GUIDE + "model-lifecycle.html"
_ACCESS = _GUIDE + "model-access.html"
_PROFILES = _GUIDE + "inference-profiles-support.html"
_CONVERSE = _GUIDE + "conversation-inference-supported-models-features.html"
_QUOTA_INCREASE = (
    "https://docs.aws.amazon.com/servicequotas/latest/userguide/request-quota-increase.html"
)
_SCPS = "https://docs.aws.amazon.com/organizations/latest/userguide/orgs_manage_policies_scps.html"
_DENIED = "https://docs.aws.amazon.com/IAM/latest/UserGuide/troubleshoot_access-denied.html"


@dataclass(frozen=True, slots=True)
class Fix:
    """`command` is a shell line or an IAM policy statement, `wait` the time until a retry can help.

    Both may be "".
    """

    text: str
    command: str = ""
    who: str = NOBODY
    url: str = ""
    wait: str = ""


_LIST_MODELS = (
    "aws bedrock list-foundation-models --region {region} --query "
    "\"modelSummaries[?modelLifecycle.status=='ACTIVE'].modelId\""
)
_LIST_PROFILES = (
    "aws bedrock list-inference-profiles --region {region} --query "
    "\"inferenceProfileSummaries[?models[?contains(modelArn, '{base_model}')]].inferenceProfileId\""
)
_AVAILABILITY = (
    "aws bedrock get-foundation-model-availability --region {region} --model-id {base_model}"
)
_LIST_QUOTAS = "aws service-quotas list-service-quotas --service-code bedrock --region {region}"
_ZERO_QUOTAS = _LIST_QUOTAS + " --query 'Quotas[?Value==`0.0`].[QuotaCode,QuotaName]'"
_AGREEMENT = (
    "aws bedrock list-foundation-model-agreement-offers --region {region} --model-id {base_model} "
    "&& aws bedrock create-foundation-model-agreement --region {region} --model-id {base_model} "
    "--offer-token <offer-token>"
)
_WHO_AM_I = "aws sts get-caller-identity"
_ENDPOINT_OVERRIDES = "env | grep -iE 'proxy|endpoint_url|base_url'"
_HOST = "bedrock-runtime.{region}.amazonaws.com"
_ALLOW = "{statement}"  # replaced by the policy statement for the operation

FIXES: dict[Reason, Fix] = {
    Reason.IAM_DENIED: Fix(
        _(
            "The AWS identity in use lacks this permission: add the statement to its IAM policy, "
            "or look for an explicit deny or a permissions boundary if it is already there."
        ),
        command=_ALLOW,
        who=ACCOUNT_ADMIN,
        url=_DENIED,
        wait=_("1 minute"),
    ),
    Reason.SCP_DENIED: Fix(
        _(
            "A policy of the AWS organization forbids the call, often in one destination region "
            "of a cross-region profile: exempt Bedrock from it there, or use a route that stays "
            "inside the allowed regions."
        ),
        command="aws organizations list-policies --filter SERVICE_CONTROL_POLICY",
        who=ORGANIZATION_ADMIN,
        url=_SCPS,
        wait=_("5 minutes"),
    ),
    Reason.API_KEY_DENIED: Fix(
        _(
            "The identity behind the Bedrock API key is not allowed to use API keys: add the "
            "statement to its IAM policy, or call with ordinary AWS credentials."
        ),
        command='{{"Effect": "Allow", "Action": "bedrock:CallWithBearerToken", "Resource": "*"}}',
        who=ACCOUNT_ADMIN,
        url=_GUIDE + "api-keys.html",
        wait=_("1 minute"),
    ),
    Reason.MARKETPLACE_SUBSCRIPTION: Fix(
        _(
            "The account has no AWS Marketplace agreement for this model: accept its offer once, "
            "then wait until it takes effect."
        ),
        command=_AGREEMENT,
        who=ACCOUNT_ADMIN,
        url=_ACCESS,
        wait=_("15 minutes"),
    ),
    Reason.PAYMENT_INSTRUMENT: Fix(
        _(
            "AWS Marketplace refuses the account's payment method: add a valid one under "
            "Billing, Payment preferences, and accept the model's offer again."
        ),
        who=ACCOUNT_ADMIN,
        url=_ACCESS,
        wait=_("15 minutes"),
    ),
    Reason.USE_CASE_FORM: Fix(
        _(
            "The vendor requires a description of the account's use case first: submit the form "
            "in the Bedrock console (Model catalog) or with this command, once per account."
        ),
        command=(
            "aws bedrock put-use-case-for-model-access --region {region} --form-data "
            "fileb://use-case.json"
        ),
        who=ACCOUNT_ADMIN,
        url=_ACCESS,
        wait=_("15 minutes"),
    ),
    Reason.MODEL_ACCESS_NOT_GRANTED: Fix(
        _(
            "The account has no access to this model in this region: run this command to see "
            "what is missing, then request access in the Bedrock console of that region."
        ),
        command=_AVAILABILITY,
        who=ACCOUNT_ADMIN,
        url=_ACCESS,
        wait=_("15 minutes"),
    ),
    Reason.ENTITLEMENT_MISMATCH: Fix(
        _(
            "The model's entitlement has not reached this account or region yet: wait, check the "
            "availability, and ask AWS Support if nothing changes within a day."
        ),
        command=_AVAILABILITY,
        who=ACCOUNT_ADMIN,
        url=_ACCESS,
        wait=_("15 minutes"),
    ),
    Reason.ACCOUNT_BLOCKED: Fix(
        _(
            "AWS does not let this account use Bedrock or this vendor's models, usually because "
            "a new account is not verified yet: open a case with AWS Support; no setting in the "
            "account changes this."
        ),
        who=AWS_SUPPORT,
        url=_ERRORS,
        wait=_("until AWS Support answers"),
    ),
    Reason.COUNTRY_NOT_SUPPORTED: Fix(
        _(
            "The vendor does not serve the country of this account or caller: use another "
            "vendor's model, or an account and network in a supported country."
        ),
        who=ACCOUNT_ADMIN,
        url="https://www.anthropic.com/supported-countries",
    ),
    Reason.LEGACY_BLOCKED: Fix(
        _(
            "The vendor marked the model as legacy and closed it to accounts that have not used "
            "it recently: switch to an active model."
        ),
        command=_LIST_MODELS,
        who=OPERATOR,
        url=_LIFECYCLE,
    ),
    Reason.END_OF_LIFE: Fix(
        _("The model is retired: switch to an active model."),
        command=_LIST_MODELS,
        who=OPERATOR,
        url=_LIFECYCLE,
    ),
    Reason.NOT_IN_REGION: Fix(
        _(
            "The model is not offered in this region: use a region or a cross-region profile "
            "that has it."
        ),
        command=_LIST_PROFILES,
        who=OPERATOR,
        url=_GUIDE + "models-regions.html",
    ),
    Reason.UNKNOWN_MODEL: Fix(
        _(
            "Bedrock does not know this model in this region: compare the id, its version suffix "
            "and its profile prefix with the list."
        ),
        command=_LIST_MODELS,
        who=OPERATOR,
        url=_GUIDE + "models-supported.html",
    ),
    Reason.API_NOT_SUPPORTED: Fix(
        _("The model is served, but not by this API: call it through one of its other APIs."),
        who=OPERATOR,
        url=_GUIDE + "models-api-compatibility.html",
    ),
    Reason.WRONG_ROUTE: Fix(
        _(
            "The call went to a path, endpoint or id where the model is not served: synchronize "
            "the catalogue, so that its routes are known, and certify again."
        ),
        command="python manage.py sync_catalogue",
        who=OPERATOR,
        url=_GUIDE + "endpoints.html",
    ),
    Reason.DATA_RETENTION_REQUIRED: Fix(
        _(
            "The model is not served under the account's data retention mode: choose a mode that "
            "the model accepts."
        ),
        command="aws bedrock get-account-data-retention --region {region}",
        who=ACCOUNT_ADMIN,
        url=_GUIDE + "data-retention.html",
    ),
    Reason.REGION_NOT_ENABLED: Fix(
        _("The account has not enabled this region: enable it."),
        command="aws account enable-region --region-name {region}",
        who=ACCOUNT_ADMIN,
        url="https://docs.aws.amazon.com/accounts/latest/reference/manage-acct-regions.html",
        wait=_("up to a few hours"),
    ),
    Reason.NEEDS_INFERENCE_PROFILE: Fix(
        _(
            "The model cannot be called by its bare id: call it through one of the inference "
            "profiles this command lists."
        ),
        command=_LIST_PROFILES,
        who=OPERATOR,
        url=_PROFILES,
    ),
    Reason.NEEDS_PROVISIONED_THROUGHPUT: Fix(
        _(
            "The model is served only on provisioned throughput: buy it and call its ARN, or use "
            "another model."
        ),
        command=(
            "aws bedrock create-provisioned-model-throughput --region {region} --model-id "
            "{base_model} --model-units 1 --provisioned-model-name <name>"
        ),
        who=ACCOUNT_ADMIN,
        url=_GUIDE + "prov-throughput.html",
    ),
    Reason.PARAMETER_NOT_SUPPORTED: Fix(
        _(
            "The model does not support a parameter or feature of this request in this "
            "operation: send the request without it."
        ),
        who=OPERATOR,
        url=_CONVERSE,
    ),
    Reason.MODALITY_NOT_SUPPORTED: Fix(
        _(
            "The model does not support this kind of input or this operation: use a model that "
            "does."
        ),
        command=(
            "aws bedrock get-foundation-model --region {region} --model-identifier {base_model}"
        ),
        who=OPERATOR,
        url=_CONVERSE,
    ),
    Reason.MALFORMED_REQUEST: Fix(
        _("Bedrock rejected the request as malformed: correct the field that the message names."),
        who=OPERATOR,
        url=_ERRORS,
    ),
    Reason.CLIENT_MISCONFIGURED: Fix(
        _(
            "Our own AWS configuration is wrong (region, endpoint, profile or library): correct "
            "the setting that the message names."
        ),
        command="aws configure list",
        who=OPERATOR,
        url="https://docs.aws.amazon.com/sdkref/latest/guide/overview.html",
    ),
    Reason.THROTTLED_REQUESTS: Fix(
        _(
            "The account sends requests faster than its quota for this model: slow down, or ask "
            "for a higher quota."
        ),
        command=_LIST_QUOTAS,
        who=OPERATOR,
        url=_QUOTAS,
        wait=_("1 minute"),
    ),
    Reason.THROTTLED_TOKENS: Fix(
        _(
            "The account uses more tokens per minute than its quota for this model (maxTokens "
            "counts in advance): slow down, lower maxTokens, or ask for a higher quota."
        ),
        command=_LIST_QUOTAS,
        who=OPERATOR,
        url=_QUOTAS,
        wait=_("1 minute"),
    ),
    Reason.DAILY_TOKENS: Fix(
        _(
            "The account's tokens for the day are used up, or a new account's daily quota is "
            "zero: ask for a higher quota, or wait for the next day."
        ),
        command=_ZERO_QUOTAS,
        who=ACCOUNT_ADMIN,
        url=_QUOTA_INCREASE,
        wait=_("up to 24 hours"),
    ),
    Reason.ZERO_QUOTA: Fix(
        _("The account's quota does not allow this call at all: ask for an increase."),
        command=_ZERO_QUOTAS,
        who=ACCOUNT_ADMIN,
        url=_QUOTA_INCREASE,
        wait=_("until AWS grants the increase"),
    ),
    Reason.CREDENTIALS_MISSING: Fix(
        _(
            "No usable AWS credentials were found: set a profile, environment variables, a role, "
            "or AWS_BEARER_TOKEN_BEDROCK."
        ),
        command="aws configure list",
        who=OPERATOR,
        url="https://docs.aws.amazon.com/sdkref/latest/guide/standardized-credentials.html",
    ),
    Reason.CREDENTIALS_INVALID: Fix(
        _(
            "AWS does not accept our credentials: replace them (a Bedrock API key works only in "
            "the region it was created for)."
        ),
        command=_WHO_AM_I,
        who=OPERATOR,
        url=_ERRORS,
    ),
    Reason.CREDENTIALS_EXPIRED: Fix(
        _(
            "Our AWS credentials have expired: see with this command where they come from, and "
            "renew them there."
        ),
        command="aws configure list",
        who=OPERATOR,
        url=_ERRORS,
    ),
    Reason.CLOCK_SKEW: Fix(
        _("This machine's clock is wrong, so AWS refuses our signatures: set the clock."),
        command="timedatectl set-ntp true",
        who=OPERATOR,
        url=_ERRORS,
    ),
    Reason.READ_TIMEOUT: Fix(
        _(
            "No answer came within our read timeout: try again, and raise the timeout if long "
            "answers are expected."
        ),
        wait=_("1 minute"),
    ),
    Reason.CONNECT_TIMEOUT: Fix(
        _(
            "The endpoint did not accept the connection in time: check the firewall, security "
            "group and VPC endpoint."
        ),
        command="curl -sv --max-time 10 https://" + _HOST + "/",
        who=NETWORK_ADMIN,
        wait=_("1 minute"),
    ),
    Reason.MODEL_TIMEOUT: Fix(
        _(
            "The model took longer than Bedrock allows: try again, with a shorter prompt or a "
            "lower maxTokens."
        ),
        url=_ERRORS,
        wait=_("1 minute"),
    ),
    Reason.DEADLINE: Fix(
        _(
            "The run's own time limit was reached: raise CERTIFICATION_TIMEOUT or run fewer at "
            "once."
        ),
        who=OPERATOR,
    ),
    Reason.DNS: Fix(
        _(
            "The endpoint's host name could not be resolved: check the spelling of the region, "
            "whether it has Bedrock, and this machine's DNS."
        ),
        command="getent hosts " + _HOST,
        who=NETWORK_ADMIN,
        url="https://docs.aws.amazon.com/general/latest/gr/bedrock.html",
    ),
    Reason.CONNECTION_REFUSED: Fix(
        _(
            "The connection to the endpoint was refused or dropped: check the network, the "
            "firewall and any endpoint override."
        ),
        command="curl -sv --max-time 10 https://" + _HOST + "/",
        who=NETWORK_ADMIN,
        wait=_("1 minute"),
    ),
    Reason.TLS: Fix(
        _(
            "The TLS certificate was not accepted, usually because a proxy presents its own: set "
            "AWS_CA_BUNDLE to the file with that proxy's CA certificate."
        ),
        command="openssl s_client -connect " + _HOST + ":443 </dev/null",
        who=NETWORK_ADMIN,
    ),
    Reason.PROXY: Fix(
        _(
            "The proxy refused the connection or could not be reached: check HTTPS_PROXY, "
            "NO_PROXY and the proxy's credentials."
        ),
        command="curl -sv --max-time 10 https://" + _HOST + "/",
        who=NETWORK_ADMIN,
    ),
    Reason.GATEWAY_REFUSED: Fix(
        _(
            "A gateway or proxy between us and AWS refused the call, so that Bedrock never saw "
            "it: have its owner change the rule, key, budget or route that the message names, or "
            "call AWS directly."
        ),
        command=_ENDPOINT_OVERRIDES,
        who=GATEWAY_OWNER,
    ),
    Reason.GATEWAY_THROTTLED: Fix(
        _(
            "A gateway between us and AWS reached a limit of its own, so that Bedrock never saw "
            "the call: slow down, or have its owner raise the limit."
        ),
        command=_ENDPOINT_OVERRIDES,
        who=GATEWAY_OWNER,
        wait=_("1 minute"),
    ),
    Reason.INTERNAL_ERROR: Fix(
        _("Bedrock had an internal error: try again."),
        url=_ERRORS,
        wait=_("1 minute"),
    ),
    Reason.SERVICE_UNAVAILABLE: Fix(
        _(
            "Bedrock has no capacity for this model at the moment: try again later, or through a "
            "cross-region profile."
        ),
        command=_LIST_PROFILES,
        url=_ERRORS,
        wait=_("5 minutes"),
    ),
    Reason.MODEL_NOT_READY: Fix(
        _("The model is still loading: try again in a few minutes."),
        url=_ERRORS,
        wait=_("5 minutes"),
    ),
    Reason.MODEL_ERROR: Fix(
        _(
            "The model itself failed on this request: try again, and simplify tools and their "
            "names if it keeps failing."
        ),
        url=_ERRORS,
        wait=_("1 minute"),
    ),
    Reason.STREAM_ERROR: Fix(
        _("Bedrock ended the stream with an error: try again."),
        url=_ERRORS,
        wait=_("1 minute"),
    ),
    Reason.STREAM_TRUNCATED: Fix(
        _(
            "The answer ended before it was complete: try again, and look for a proxy that cuts "
            "long connections."
        ),
        wait=_("1 minute"),
    ),
    Reason.STREAM_CORRUPT: Fix(
        _(
            "The stream's checksums do not match: try again, and look for a proxy that rewrites "
            "responses."
        ),
        wait=_("1 minute"),
    ),
    Reason.BAD_RESPONSE: Fix(
        _(
            "The response is not a valid Bedrock response: try again, and look for a proxy or an "
            "endpoint override."
        ),
        wait=_("1 minute"),
    ),
    Reason.GUARDRAIL: Fix(
        _(
            "A guardrail of the account or of its organization, not the model, blocked the "
            "request or the answer: exempt these calls from it, or loosen the policy that "
            "intervened."
        ),
        command=(
            "aws bedrock list-enforced-guardrails-configuration --region {region}; "
            "aws bedrock list-guardrails --region {region}"
        ),
        who=ACCOUNT_ADMIN,
        url=_GUIDE + "guardrails.html",
    ),
    Reason.CONTENT_FILTER: Fix(
        _(
            "The model, or its vendor's filter, refused the request or cut the answer: rephrase "
            "the prompt, or use another model."
        ),
        who=OPERATOR,
    ),
    Reason.CONTEXT_TOO_LONG: Fix(
        _(
            "The input is longer than the model accepts: shorten it, or use a model with a "
            "larger context window."
        ),
        who=OPERATOR,
    ),
    Reason.GATE_FAILED: Fix(
        _(
            "The model failed a basic test in this region: read the failed cases, and use "
            "another region or model."
        ),
        who=OPERATOR,
    ),
    Reason.QUALITY_BELOW_LINE: Fix(
        _(
            "The model works here, but its answers are below the required quality: read the "
            "unmet conditions before relying on it."
        ),
        who=OPERATOR,
    ),
    Reason.UNEXPECTED_EXCEPTION: Fix(
        _(
            "Our own program failed, not the model: read the traceback in the run's evidence, "
            "and report it."
        ),
        who=OPERATOR,
    ),
    Reason.UNKNOWN: Fix(
        _(
            "No rule matches this error: read the raw message, and report it so that a rule can "
            "be added."
        ),
        who=OPERATOR,
    ),
}

# Fixes of single rules, where the reason's own would mislead.
HINTS: dict[str, Fix] = {
    "marketplace_actions": Fix(
        _(
            "The AWS identity in use is not allowed to subscribe to models: add the statement to "
            "its IAM policy, or have an administrator call the model once."
        ),
        command=(
            '{{"Effect": "Allow", "Action": ["aws-marketplace:ViewSubscriptions", '
            '"aws-marketplace:Subscribe"], "Resource": "*"}}'
        ),
        who=ACCOUNT_ADMIN,
        url=_ACCESS,
        wait=_("5 minutes"),
    ),
}

_NEW_API_KEY = (
    "aws iam create-service-specific-credential --user-name <user> --service-name "
    "bedrock.amazonaws.com"
)
_API_KEYS = _GUIDE + "api-keys.html"
# What renews each kind of credentials: no other command does.
_RENEWALS: dict[Credential, Fix] = {
    Credential.API_KEY: Fix(
        _(
            "The Bedrock API key is expired or not accepted: create a new one for the region "
            "that is called, and set AWS_BEARER_TOKEN_BEDROCK to it (a short-term key lives at "
            "most 12 hours)."
        ),
        command=_NEW_API_KEY,
        url=_API_KEYS,
    ),
    Credential.SSO: Fix(
        _("The session of IAM Identity Center has ended: sign in again."),
        command="aws sso login",
        url="https://docs.aws.amazon.com/cli/latest/userguide/cli-configure-sso.html",
    ),
    Credential.LOGIN: Fix(
        _("The session of `aws login` has ended: sign in again."),
        command="aws login",
        url="https://docs.aws.amazon.com/cli/latest/userguide/cli-configure-sign-in.html",
    ),
    Credential.WEB_IDENTITY: Fix(
        _(
            "The identity token of this pod or job is not accepted any more: see that its file "
            "is renewed and that the role trusts its issuer, then start again."
        ),
        command="ls -l $AWS_WEB_IDENTITY_TOKEN_FILE",
        url="https://docs.aws.amazon.com/sdkref/latest/guide/access-assume-role-web.html",
    ),
    Credential.INSTANCE: Fix(
        _(
            "The role of this machine or container gives no valid credentials: see that the role "
            "is attached and its metadata service can be reached, then start again."
        ),
        command=_WHO_AM_I,
        url="https://docs.aws.amazon.com/sdkref/latest/guide/feature-imds-credentials.html",
    ),
    Credential.ROLE: Fix(
        _("The session of the assumed role has ended or is not accepted: assume the role again."),
        command="aws sts assume-role --role-arn <role-arn> --role-session-name certification",
        url="https://docs.aws.amazon.com/sdkref/latest/guide/access-assume-role.html",
    ),
    Credential.STATIC: Fix(
        _(
            "AWS does not accept this access key or its secret: enter them again, or create a "
            "new key for the user."
        ),
        command="aws iam create-access-key --user-name <user>",
        url=_ERRORS,
    ),
}
# a session that is not there is started in the same way as one that has ended
_SIGNED_IN = frozenset({Credential.SSO, Credential.LOGIN})
_RENEWED = frozenset({Reason.CREDENTIALS_EXPIRED, Reason.CREDENTIALS_INVALID})

_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:/-]{0,250}")
_REGION = r"[a-z]{2}(?:-[a-z]+){1,2}-\d{1,2}"
_ACCOUNT = re.compile(r"(?<!\d)\d{12}(?!\d)")
_PROFILE_PREFIX = re.compile(r"^[a-z][a-z-]{1,7}\.(?=[a-z0-9]+\.[a-z])")
_MODEL_IN_TEXT = re.compile(
    r"(?:foundation-model/|inference-profile/|model ID |amazonaws\.com/model/)"
    r"([A-Za-z0-9][A-Za-z0-9.-]*(?:(?::|%3A)[0-9]\w*)*)"
)
_REGION_IN_TEXT = re.compile(
    rf"(?:bedrock(?:-runtime)?(?:-fips)?[.:])({_REGION})\b|\bin (?:the )?({_REGION})\b"
)
_STREAMED = {
    "ConverseStream",
    "InvokeModelWithResponseStream",
    "InvokeModelWithBidirectionalStream",
}
_ON_MODELS = {
    "Converse",
    "InvokeModel",
    "CountTokens",
    "ChatCompletions",
    "Responses",
    "Messages",
    *_STREAMED,
    "",
}
_DENIED_ACTION = re.compile(r"not authorized to perform:?\s+((?:bedrock|bedrock-mantle):[A-Za-z]+)")


def fix_for(
    reason: Reason,
    *,
    model_id: str = "",
    region: str = "",
    operation: str = "",
    hint: str = "",
    denied: str = "",
    credential: Credential | None = None,
) -> Fix:
    """Return the fix for a reason, its command filled in.

    `denied` is the IAM action that the message names, `credential` the kind that was used. An id or
    region that is not safe in a shell line stays a placeholder.
    """
    fix = HINTS.get(hint) or FIXES[reason]
    if credential and (
        reason in _RENEWED or (reason is Reason.CREDENTIALS_MISSING and credential in _SIGNED_IN)
    ):
        fix = replace(_RENEWALS[credential], who=OPERATOR)
    if not fix.command:
        return fix
    model = without_account_ids(model_id) if _ID.fullmatch(model_id) else ""
    command = fix.command.format(
        region=region if re.fullmatch(_REGION, region) else "<region>",
        base_model=_PROFILE_PREFIX.sub("", model) or "<model-id>",
        statement=policy_statement(
            model, operation if operation.isascii() and operation.isalpha() else "", denied
        ),
    )
    return replace(fix, command=command)


def without_account_ids(text: str) -> str:
    """Replace every twelve-digit number: AWS account ids must not be shown."""
    return _ACCOUNT.sub("<account-id>", text)


def model_in(message: str) -> str:
    """Return the model or profile id that a message names, or ""."""
    match = _MODEL_IN_TEXT.search(message)
    return match.group(1).replace("%3A", ":").rstrip(".-") if match else ""


def region_in(message: str) -> str:
    """Return the region that a message names, or ""."""
    match = _REGION_IN_TEXT.search(message)
    return (match.group(1) or match.group(2)) if match else ""


def denied_action(message: str) -> str:
    """Return the IAM action of Bedrock that a message says is not allowed, or ""."""
    match = _DENIED_ACTION.search(message)
    return match.group(1) if match else ""


def policy_statement(model: str, operation: str, denied: str = "") -> str:
    """Return the IAM policy statement that allows the operation, as JSON.

    A profile needs its own ARN and those of its models in every region, and calls of the
    OpenAI-shaped APIs by a profile the account's default project; the other endpoint has actions of
    its own.
    """
    if denied.startswith("bedrock-mantle:"):
        return json.dumps({"Effect": "Allow", "Action": denied, "Resource": "*"})
    if operation not in _ON_MODELS:
        return json.dumps({"Effect": "Allow", "Action": f"bedrock:{operation}", "Resource": "*"})
    action: str | list[str] = "bedrock:InvokeModel"
    if operation in _STREAMED | {""}:
        action = ["bedrock:InvokeModel", "bedrock:InvokeModelWithResponseStream"]
    elif operation == "CountTokens":
        action = "bedrock:CountTokens"
    base = _PROFILE_PREFIX.sub("", model) or "*"
    resources = [f"arn:aws:bedrock:*::foundation-model/{base}"]
    if base != model:
        resources.append(f"arn:aws:bedrock:*:*:inference-profile/{model or '*'}")
    if operation in {"ChatCompletions", "Responses"}:
        resources.append("arn:aws:bedrock:*:*:project/default")
    return json.dumps({"Effect": "Allow", "Action": action, "Resource": resources})
