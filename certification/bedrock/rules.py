"""Which cause the text of an error names: from the text of AWS, SDKs and gateways to a Reason.

`RULES` are read in order over the normalised text (see `diagnosis.normalise`: lower case, plain
quotes, single spaces, a `.` only between sentences; a second line holds what a log or SDK wrapped,
so that `^` and `$` are the ends of either) and the first match decides. They match the
words that Bedrock uses for a cause, not whole sentences, because the same sentence arrives wrapped,
shortened and with other names inside. What no rule matches is left to the code (see `codes`).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum
from functools import cached_property

from certification.reasons import Reason as R


@dataclass(frozen=True)
class Rule:
    """A text that matches one of `alternatives`, and not `unless`, means `reason`.

    `hint` names a special fix where the reason's own would mislead (see `fixes.HINTS`). The rule
    decides its `example` in every family; a test checks that.
    """

    reason: R
    alternatives: tuple[str, ...]
    unless: str = ""
    hint: str = ""
    example: str = ""

    @cached_property
    def patterns(self) -> tuple[re.Pattern[str], re.Pattern[str] | None]:
        """Compile what matches and what must not, once they are needed: all together take a quarter
        of a second, which most processes never need.
        """
        pattern = re.compile("|".join(f"(?:{a})" for a in self.alternatives), re.MULTILINE)
        return pattern, re.compile(self.unless) if self.unless else None

    def matches(self, text: str) -> bool:
        pattern, unless = self.patterns
        return bool(pattern.search(text)) and not (unless and unless.search(text))


def _rule(reason: R, *alternatives: str, example: str, unless: str = "", hint: str = "") -> Rule:
    return Rule(reason, alternatives, unless, hint, example)


# Not an answer of Bedrock at all. First, because a gateway's words (key, token, budget, rate,
# route, policy) are those of AWS in another order. What a gateway passes on of Bedrock's is left to
# the rules below: it names the refusal of AWS, or an upstream's status of 500 and above.
_GATEWAY_KEY = (
    r"(?:virtual|subscription|consumer|tenant|proxy|gateway|litellm|portkey|kong|apigee|master|app)"
    r"[ _-]?(?:api[ _-]?)?(?:key|token)"
)
_WEB_SERVERS = (
    r"(?:nginx|openresty|apache|envoy|haproxy|varnish|traefik|caddy|cloudflare|cloudfront|awselb"
    r"|squid|iis|application[- ]gateway|kong|apisix|tengine|akamai\w*)"
)
_BY_A_COMPANY = (
    r"(?:by|per|due to|because of|under|with|against|violates?|to) (?:\w+ )?"
    r"(?:your |the |our |an? )?(?:\w+ )?(?:organi[sz]ation|company|corporate|enterprise|employer|it"
    r"|internet|web|network|url|acceptable use|administrator|firewall|proxy)\b"
)
_GATEWAY = (
    _rule(
        R.GATEWAY_THROTTLED,
        r"max(?:imum)? parallel requests? (?:limit|reached|exceeded)",
        r"(?:crossed|exceeded|over|reached|hit)[^.]{0,30}\b(?:tpm|rpm)\b[^.]{0,20}(?:limit|/)"
        r"[^.]{0,60}(?:key|team|user|tenant|parallel)",
        r"(?:rate|request|token|tpm|rpm|call)s?[ _-]?(?:rate[ _-]?)?(?:limit|quota)s? "
        r"(?:is |was |has been )?(?:exceeded|reached|hit)[^.]{0,20} (?:for|by|of|on) "
        r"(?:the |this |your |api |virtual )*"
        r"(?:key|team|user|tenant|consumer|subscription|customer|project|client|api_key)\b",
        r"\bapi rate limit exceeded",
        r"spike ?arrest",
        r"rate ?limit quota violation",
        r"out of call volume quota",
        r"rate limit is exceeded\. try again in",
        r"local_rate_limited|local rate limit",
        r"no deployments? available[^.]{0,60}try again in",
        r"error code: 1015\b",
        example="Max parallel request limit reached. Hit limit for api_key",
    ),
    _rule(
        R.GATEWAY_REFUSED,
        # its keys, users and budgets
        rf"{_GATEWAY_KEY}\b[^.]{{0,60}}(?:invalid|expected|required|missing|not|unknown|expired|"
        r"blocked|revoked|disabled|denied)",
        rf"(?:invalid|missing|unknown|no|expired|blocked|without)(?: an?)? {_GATEWAY_KEY}\b",
        r"\bproxy server token",
        r"no api[ -]?key (?:was )?(?:found in|passed in|provided in|supplied in|sent in)",
        r"failed to resolve api ?key",
        r"invalid api ?key for given resource",
        r"\bbudget\b(?!_)[^.]{0,60}(?:exceed|exhaust|reached|spent|used up|depleted)",
        r"(?:exceed|exhaust|over|reached|out of)\w*(?: the| your| its)?(?: \w+)? budget\b(?!_)",
        r"(?:key|team|user|project|tenant|organi[sz]ation|consumer|application)s? "
        r"(?:\S+ )?(?:is |are )?(?:not|n't) (?:allowed|permitted|entitled|enabled) "
        r"(?:to |for )?(?:access|call|use|consume)? ?(?:this |the |to )?"
        r"(?:model|api|service|route)",
        r"(?:key|team|user) can only access models",
        r"you cannot consume this (?:service|api)",
        r"x-portkey-\w+",
        r"\bjwt (?:is |verification |token |signature |authenti)"
        r"[^.]{0,20}(?:missing|fail|expired|invalid|not)",
        r"\brbac: access denied",
        r"user is not authorized to access this resource",
        r"insufficient (?:credits|balance|funds)",
        # its routes and deployments
        r"no (?:matching )?(?:route|api)s? (?:was |were )?(?:matched|found|defined) "
        r"(?:with|for|in|by)",
        r"failed to match any routes?",
        r"no (?:healthy |available |active |valid )*"
        r"(?:deployment|channel|provider|endpoint|key|backend)s?\b"
        r"[^.]{0,30}(?:available|found|configured|support|for)[^.]{0,40}(?:model|group|alias|route)",
        r"invalid model name passed in",
        r"(?:model|alias|deployment)\b[^.]{0,80} (?:is )?(?:not (?:found|configured|defined|"
        r"registered|allowed)) (?:in|on|by|for) (?:the |this )?"
        r"(?:gateway|proxy|router|litellm|config)",
        # pages of a company's proxy, of a firewall, of a web server in front
        rf"(?:blocked|denied|prohibited|restricted|not allowed|forbidden|disallowed)\b[^.]{{0,80}}"
        rf"{_BY_A_COMPANY}",
        r"(?:web ?page|web ?site|site|page|url|request|access|category|connection)s?\b"
        r"[^.]{0,40} (?:is |was |has been |been )?(?:blocked|denied)\b[^.]{0,120}"
        r"(?:administrator|firewall|web filter|policy|category|security)",
        r"web ?(?:page|site) (?:is )?blocked",
        r"(?:zscaler|netskope|forcepoint|websense|fortiguard|fortinet|fortigate|blue ?coat|bluecoat"
        r"|mcafee|trellix|umbrella|palo ?alto|checkpoint|check point|sophos|barracuda|symantec"
        r"|iboss|skyhigh)\b[^.]{0,200}(?:block|den(?:y|ied)|polic|security|filter|restrict|not "
        r"allowed)",
        r"(?:blocked|denied|filtered|inspected|security) by (?:zscaler|netskope|forcepoint|fortinet"
        r"|fortiguard|cisco|palo alto|sophos|symantec)",
        r"access control configuration prevents",
        r"\b(?:err_access_denied|policy_denied|tcp_denied)\b",
        r"the requested url (?:was rejected|could not be retrieved)",
        r"(?:sorry, )?you have been blocked",
        r"attention required! . cloudflare",
        r"error (?:code:? )?10(?:05|06|07|08|09|10|12|20)\b",
        r"incapsula|imperva|the request could not be satisfied",
        rf"\b(?:400|401|403|404|405|411|412|413|414|429|431)\b.{{0,200}}\b{_WEB_SERVERS}\b",
        r"<title>\W*(?:(?:error|http) )?4\d\d\b",
        r"<h1>\W*(?:(?:error|http) )?4\d\d\b",
        unless=r"authorized to perform|service control|\bscps?\b|guardrail|content[ -]?filter"
        r"|tunnel connection failed|bedrockexception|proxy authentication|407",
        example="no Route matched with those values",
    ),
)

# What arrived cannot be read, because the reader is not made for it: a page where JSON was
# expected, or a stop reason that is newer than the SDK.
_STOP_REASON = r"(?:stop|finish|completion|termination)[ _]?reason|stopreason|finishreason"
_NOT_KNOWN = (
    r"(?:unknown|unsupported|unexpected|unrecogni[sz]ed|unhandled|invalid|not (?:a )?valid|no enum"
    r"|not one of|could not be converted|cannot deserialize|unable to (?:map|convert|parse)"
    r"|not (?:supported|recogni[sz]ed|handled|mapped)|one of|input should be)"
)
_STOP_VALUE = (
    rf"(?:(?:{_STOP_REASON}).{{0,120}}{_NOT_KNOWN}|{_NOT_KNOWN}.{{0,120}}(?:{_STOP_REASON}))"
)
_STOPPED = (
    _rule(
        R.GUARDRAIL,
        rf"{_STOP_VALUE}.{{0,60}}guardrail_?intervened",
        rf"guardrail_?intervened.{{0,60}}{_STOP_VALUE}",
        example="Unsupported stop reason: guardrail_intervened",
    ),
    _rule(
        R.CONTENT_FILTER,
        rf"{_STOP_VALUE}.{{0,60}}(?:content_?filter(?:ed)?|refusal)",
        rf"\b(?:content_?filter(?:ed)?|refusal)\b.{{0,60}}{_STOP_VALUE}",
        example="Unsupported stop reason: content_filtered",
    ),
    _rule(
        R.CONTEXT_TOO_LONG,
        rf"{_STOP_VALUE}.{{0,60}}model_?context_?window_?exceeded",
        rf"model_?context_?window_?exceeded.{{0,60}}{_STOP_VALUE}",
        example="Unsupported stop reason: model_context_window_exceeded",
    ),
    _rule(
        R.MODEL_ERROR,
        _STOP_VALUE,
        r"\bmalformed_(?:model_output|tool_use)\b",
        unless=r"failed to satisfy|extra inputs|stop_?sequence",
        example="Unsupported stop reason: pause_turn",
    ),
)
_UNREADABLE = (
    _rule(
        R.BAD_RESPONSE,
        r"(?:unexpected|invalid) (?:token|character|char)s? \W{0,3}<",
        r"'<' is an invalid start of a value",
        r"\bchar '.' is not expected",
        r"deserializ(?:ation|e|er) (?:error|failed|failure|exception)",
        r"(?:error|failed|failure|unable|cannot|could not)(?: to)?(?: while| when)? "
        r"(?:unmarshall?(?:ing)?|deserializ(?:e|ing)|decod(?:e|ing)|pars(?:e|ing)) "
        r"(?:the |a |an )?(?:service |http |api |server )?(?:response|reply|error)",
        r"unmarshall?ing ?exception",
        r"(?:invalid|unexpected|wrong|unsupported) (?:response )?content[ -]?type\b[^.]{0,40}html",
        r"(?:expected|wanted) (?:json|an event ?stream|application/\S+)[^.]{0,40}"
        r"(?:got|received|but) [^.]{0,20}html",
        r"invalid (?:json|xml) received",
        r"error decoding response body",
        r"looking for beginning of value",
        r"^\W*expecting value: line",
        r"^\W*expected value at line 1 column 1",
        unless=r"failed to deserialize the json body|request body|checksum|pythonic",
        example="Unable to parse response (no element found: line 1, column 0)",
    ),
)
_PAGE = (
    _rule(
        R.BAD_RESPONSE,
        r"<!doctype html",
        r"<html\b",
        r"unexpected (?:html|web page)",
        r"(?:received|got|returned) (?:an )?html",
        example="<!DOCTYPE html> instead of JSON",
    ),
)

# Who is calling. Early, because an identity problem can be wrapped in any code and its words are
# unmistakable.
_IDENTITY = (
    _rule(
        R.CLIENT_MISCONFIGURED,
        r"should be scoped to (?:a |the )?(?:correct|valid) service",
        example="Credential should be scoped to correct service: 'bedrock'.",
    ),
    _rule(
        R.CLOCK_SKEW,
        r"signature expired",
        r"signature not yet current",
        r"request ?time ?too ?skewed",
        r"difference between the request time and the (?:current|server) time",
        r"is now (?:earlier|later) than",
        r"clock (?:skew|is skewed)",
        example="The difference between the request time and the current time is too large.",
    ),
    _rule(
        R.API_KEY_DENIED,
        r"bedrock(?:-mantle)?:callwithbearertoken",
        example="User: x is not authorized to perform: bedrock:CallWithBearerToken on resource: *",
    ),
    _rule(
        R.CREDENTIALS_EXPIRED,
        r"(?:token|session|credentials?|api[ -]?key|access key|certificate of the "
        r"caller)\b[^.\"]{0,60}\b"
        r"(?:is|are|has|have|was|were)(?: been)? (?:already )?expired",
        r"expired ?(?:security |session |access |sso |bearer |refresh )?(?:token|credentials?)",
        r"session has expired or (?:is otherwise invalid|credentials have changed)",
        r"(?:token|credentials?|session) (?:expired|refresh failed)",
        r"invalidgrantexception",
        r"refreshed credentials are still expired",
        r"token must not be expired",
        r"(?:refresh|unable to refresh|renew)\w* (?:cached |the |this )*sso (?:token|session)",
        r"sso session (?:associated with this profile )?(?:has expired|is expired)",
        r"(?:credentials|token) were refreshed, but .{0,40}still expired",
        unless=r"is not authorized to perform",
        example="The security token included in the request is expired",
    ),
    _rule(
        R.CREDENTIALS_MISSING,
        r"(?:unable|failed|not able) to (?:locate|find|load|resolve|retrieve|get|obtain) "
        r"(?:any |valid |the |your |aws |security |authorization )*"
        r"(?:credentials?|authorization token|auth token)",
        r"(?:could not|couldn't|cannot|can't) (?:locate|find|load|resolve|retrieve|get|obtain) "
        r"(?:any |valid |the |your |aws |security )*credentials",
        r"no (?:valid |aws )*credential(?:s|providers)?\b[^.]{0,40}"
        r"(?:found|provided|available|configured|in chain|source)",
        r"no valid providers in chain",
        r"no ec2 imds role found",
        r"\bno (?:aws |valid |usable )*credential",
        r"credentials? (?:(?:is|are|were) missing|(?:(?:is|are|were) )?not "
        r"(?:set|configured|found|provided))",
        r"missing (?:aws )?(?:credentials|authentication ?token)",
        r"is missing (?:an? )?(?:authentication|authorization|security) ?token",
        r"partial credentials found",
        r"config profile \(.*?\) could not be found",
        r"(?:error loading|unable to load) sso token",
        r"did not (?:load|provide) (?:any )?credentials",
        r"(?:unable to|cannot|could not) (?:sign requests?|get iam security credentials)"
        r"[^.]{0,40}(?:credentials|metadata)",
        r"credential provider was not enabled",
        r"error retrieving credentials from the instance",
        r"no (?:aws )?credentials? (?:were |was |could be )?(?:set|resolved|loaded|given|in)\b",
        r"resolved credential object is not valid",
        example="Unable to locate credentials",
    ),
    _rule(
        R.CREDENTIALS_INVALID,
        r"security token included in the request is (?:invalid|malformed|not valid)",
        r"(?:token|api[ -]?key|access key(?: id)?|credentials?)"
        r"(?: you (?:provided|specified))?[^.\"]{0,40} "
        r"(?:is|are) (?:invalid|not valid|malformed|incorrect|revoked|disabled|inactive)",
        r"invalid (?:bearer|security|access|session|authentication|auth)? ?"
        r"(?:token|api[ -]?key|access key|credentials?)",
        r"invalid_api_key",
        r"(?:session|security|access|bearer|sso|id|refresh) token\b[^.\"]{0,40}"
        r"\b(?:not found|invalid|not valid|revoked|not recogni[sz]ed|unknown|unrecogni[sz]ed)",
        r"make sure your api key is valid",
        r"authentication failed",
        r"(?:request )?signature we calculated does not match",
        r"signature ?does ?not ?match",
        r"credential should be scoped to (?:a valid|correct)",
        r"(?:not a valid key=value pair|authorization header requires|authorization header "
        r"(?:is )?(?:malformed|invalid))",
        r"access key id (?:you )?(?:provided )?does not exist",
        r"does not conform to aws standards",
        r"^\W*(?:401 )?unauthorized\W*$",
        r"error when retrieving (?:credentials|token) from",
        unless=r"parameter validation failed",
        example="The security token included in the request is invalid.",
    ),
)

_OPERATION = r"converse\w*|invoke_?model\w*|count_?tokens\w*|apply_?guardrail\w*"
_OURS = (
    _rule(
        R.CLIENT_MISCONFIGURED,
        r"must specify a region",
        r"\bno region\b",
        r"region (?:is |was )?(?:not |un)(?:set|specified|configured|provided|defined)",
        r"region is missing|missing region",
        r"operation is not recognized by the service",
        r"unknown service: '?bedrock",
        r"unsupported signature version",
        r"no (?:region ?endpoint|endpoint rule)[^.]{0,40}(?:configured|matched|specified)",
        r"region must be (?:set|specified|configured)",
        r"unable to load (?:a |the )?region",
        r"missing ?region ?error",
        # a library older than the operation that is called
        r"object has no attribute '?(?:converse|invoke|count_tokens|apply_guardrail|stream)\w*",
        rf"(?:{_OPERATION}) is not a (?:function|constructor|method)",
        rf"does not provide an export named \W?(?:{_OPERATION})",
        rf"undefined (?:method|symbol|function)\W{{0,4}}(?:{_OPERATION})",
        rf"(?:no such|unknown|undefined|unrecogni[sz]ed|not an?|has no field or|could not find|"
        rf"cannot find|no) (?:method|operation|member|function|symbol|command)"
        rf"[^.]{{0,60}}\b(?:{_OPERATION})",
        rf"\b(?:{_OPERATION})\b[^.]{{0,40}} (?:operation|method|function) "
        r"(?:does not exist|not found|is not (?:found|defined|available|known))",
        r"no ?such ?method ?error|missing ?method ?exception|no ?class ?def ?found ?error"
        r"|class ?not ?found ?exception|module ?not ?found ?error|operation ?not ?found",
        rf"has no field or method (?:{_OPERATION})",
        r"(?:found |argument \w+: )invalid choice",
        r"no module named \W?(?:boto|aio|aws|anthropic|openai)",
        r"(?:requires?|need(?:s|ed)?|upgrade|update|older|outdated|too old|minimum)\b[^.]{0,40}"
        r"\b(?:boto3|botocore|aws[- ]sdk|aws[- ]?cli|sdk)\b[^.]{0,30}"
        r"(?:>=|newer|version|or later|upgrade)",
        r"\b(?:boto3|botocore|aws[- ]sdk|aws[- ]?cli)\b[^.]{0,40}(?:too old|outdated|older than"
        r"|does not support|doesn't support)",
        example="You must specify a region.",
    ),
)

# What the caller may do, and which agreements its account has accepted.
_ACCESS = (
    _rule(
        R.DATA_RETENTION_REQUIRED,
        r"data[ _-]?retention",
        r"(?:provider_data_share|aws_review)",
        unless=r"is not authorized to perform",
        example="data retention mode 'default' is not available for this model",
    ),
    _rule(
        R.PAYMENT_INSTRUMENT,
        r"invalid_?payment_?instrument",
        r"payment (?:instrument|method)",
        r"(?:credit|debit) card",
        example="Model access is denied due to INVALID_PAYMENT_INSTRUMENT:A valid payment "
        "instrument must be provided.",
    ),
    _rule(
        R.USE_CASE_FORM,
        r"use[ -]case (?:details|form|information)",
        r"ftu_?form_?not_?filled",
        r"(?:filled?|fill(?:ed)? out|submit(?:ted)?) (?:out |in )?the "
        r"(?:request |anthropic |use[ -]case )?form",
        r"request form",
        example="Model use case details have not been submitted for this account.",
    ),
    _rule(
        R.SCP_DENIED,
        r"service control polic",
        r"resource control polic",
        r"\bscps?\b.{0,40}den(?:y|ied)",
        r"den(?:y|ied) .{0,30}\bscps?\b",
        r"organizations? polic(?:y|ies).{0,40}den",
        example="User: x is not authorized to perform: bedrock:InvokeModel with an explicit deny "
        "in a service control policy",
    ),
    _rule(
        R.MARKETPLACE_SUBSCRIPTION,
        r"aws-marketplace:",
        hint="marketplace_actions",
        example="User is not authorized to perform the required actions "
        "(aws-marketplace:Subscribe).",
    ),
    _rule(
        R.MARKETPLACE_SUBSCRIPTION,
        r"marketplace (?:subscription|agreement|action|permission|offer)",
        r"subscri(?:be|ption).{0,60}marketplace",
        r"does(?:n't| not) have an? (?:valid |active )?agreement",
        r"no (?:valid |active )?agreement (?:for|with|to)",
        r"agreement .{0,40}(?:not (?:been )?accepted|is (?:missing|pending)|required)",
        r"model access is denied due to",
        example="Your account does not have an agreement to this model.",
    ),
    _rule(
        R.COUNTRY_NOT_SUPPORTED,
        r"unsupported countr(?:y|ies)",
        r"supported-countries",
        r"(?:not (?:available|supported|allowed|offered)|unavailable) (?:in|from|for) "
        r"(?:your|this|the) (?:country|territory|location)",
        r"countr(?:y|ies)[^.]{0,40} not (?:supported|allowed)",
        example="Access to Anthropic models is not allowed from unsupported countries, regions, "
        "or territories.",
    ),
    _rule(
        R.IAM_DENIED,
        r"^\W*access (?:is )?denied\W*$",
        r"is not authorized to perform",
        r"not authorized to perform:? [\w-]+:\w+",
        r"no (?:identity|resource|session)-based policy allows",
        r"permissions? boundary",
        r"explicit deny",
        r"(?:do|does) not have (?:the )?(?:required |sufficient |necessary )?permissions? "
        r"(?:to|for)",
        r"not authorized to (?:perform this|access this|call)",
        r"(?:vpc endpoint|session) policy",
        unless=r"account is not authorized",
        example="User: x is not authorized to perform: bedrock:InvokeModel on resource: y",
    ),
    _rule(
        R.ENTITLEMENT_MISMATCH,
        r"(?:not|n't) entitled",
        r"entitlement",
        example="Your account is not entitled to use this model.",
    ),
    _rule(
        R.REGION_NOT_ENABLED,
        r"region (?:[\w-]+ )?(?:is )?(?:not|n't) (?:been )?(?:enabled|opted)",
        r"region[^.]{0,30}(?:is disabled|opt[ -]in)",
        r"opt(?:ed)?[ -]in[^.]{0,30}region",
        r"enable (?:the |this )?region",
        example="The region ap-east-2 is not enabled for your account.",
    ),
    _rule(
        R.ACCOUNT_BLOCKED,
        r"operation (?:is )?not allowed",
        r"(?:not (?:allowed|available|permitted|enabled|supported|eligible|authorized)|restricted"
        r"|blocked|disabled|denied|suspended) "
        r"(?:for|to|on|by|in) (?:this |your |the )?(?:aws )?accounts?\b",
        r"(?:this|your|the) (?:aws )?account (?:is|has been|was|is currently)"
        r"(?: currently| temporarily| not)? "
        r"(?:blocked|suspended|restricted|disabled|closed|on hold|under (?:review|verification)"
        r"|being verified|pending|deactivated)",
        r"channel program accounts?",
        r"account (?:verification|is (?:pending|awaiting) verification)",
        r"not recognized as a valid account",
        r"(?:request for accessing resources in this region|account) is being "
        r"(?:validated|verified)",
        r"needs a subscription for the service",
        r"not subscribed to this service",
        r"not signed up for (?:this|the) service",
        r"account is not authorized to",
        unless=r"account is not authorized to invoke",
        example="Operation not allowed",
    ),
    _rule(
        R.MODEL_ACCESS_NOT_GRANTED,
        r"(?:don't|do not|doesn't|does not) have access to (?:the|this|that|any) "
        r"(?:requested |specified |foundation )*model",
        r"account is not authorized to invoke",
        r"model access (?:is|has) (?:not|n't)(?: been)? (?:granted|enabled|requested)",
        r"(?:request|enable|grant) (?:model )?access (?:to|for) (?:the|this) model",
        r"access (?:to (?:the|this) model )?(?:has|is) (?:not|n't)(?: been)? (?:granted|enabled)",
        r"access denied to (?:the )?model",
        r"allow-?list",
        r"no access to (?:the )?model",
        example="You don't have access to the model with the specified model ID.",
    ),
)

# Whether the model is there.
_MODEL_STATE = (
    _rule(
        R.LEGACY_BLOCKED,
        r"marked (?:by (?:the )?provider )?as legacy",
        r"legacy (?:model|and you have not)",
        r"(?:model|version) is (?:in )?legacy",
        example="Access denied. This Model is marked by provider as Legacy.",
    ),
    _rule(
        R.END_OF_LIFE,
        r"end[ -]of[ -](?:its )?(?:life|support)",
        r"(?:model|version)\b[^.]{0,80} (?:has been|was|is|are) (?:now )?"
        r"(?:retired|deprecated|discontinued|sunset|decommissioned)",
        r"(?:model|version)\b[^.]{0,80} (?:is )?no longer "
        r"(?:available|supported|offered|accessible)",
        r"no longer supports? (?:the |this )?model",
        unless=r"`?(?:temperature|top_?p|top_?k|max_?tokens|parameter|field|thinking)\w*`? "
        r"(?:is|are|has been) deprecated|deprecated for this model",
        example="This model version has reached the end of its life.",
    ),
)

# How the model must be called.
_PROFILE = r"(?:us|eu|apac|jp|au|ca|in|mx|us-gov|global)·[a-z0-9-]+·[a-z]"
_ROUTE = (
    _rule(
        R.WRONG_ROUTE,
        r"(?:n't|not) (?:supported|available|served) on this (?:route|path|endpoint)",
        r"unknown ?operation ?exception",
        r"^\W*(?:404\W+)?(?:page )?not found\W*$",
        rf"the model \W?{_PROFILE}[^ ]* does not exist",
        example="model `xai.grok-4.3` isn't supported on this route",
    ),
    _rule(
        R.API_NOT_SUPPORTED,
        r"(?:n't|not) support (?:the |this )?\W?[/\w-]{0,40}\W? ?api\b",
        r"doesn't exist or doesn't support this api",
        r"(?:n't|not) (?:supported|available|served) (?:by|in|with|on|through|via|for) "
        r"(?:the |this )?"
        r"\W?(?:converse|invoke ?model|chat ?completions?|responses|messages)(?:stream)?\W? ?api\b",
        r"use the \W?(?:converse|invokemodel|chat completions|responses|messages)\W? api "
        r"(?:instead|for this model)",
        example="The model 'qwen.qwen3-32b' does not support the '/openai/v1/responses' API",
    ),
    _rule(
        R.NOT_IN_REGION,
        r"the model \W?[a-z0-9]+·[a-z][^ ]* does not exist",
        example="The model 'openai.gpt-5.5' does not exist",
    ),
    _rule(
        R.NEEDS_PROVISIONED_THROUGHPUT,
        r"on-demand throughput isn?'?t? ?(?:not )?supported.{0,80}provisioned",
        r"(?:requires?|needs?|only (?:be )?(?:invoked|used|available|supported)? ?"
        r"(?:with|through|via|using)|must (?:use|purchase|be)) "
        r"[^.]{0,40}provisioned throughput",
        r"provisioned throughput (?:is )?(?:required|not (?:been )?(?:purchased|found))",
        r"(?:purchase|buy|create) (?:a )?provisioned (?:throughput|model)",
        r"provisioned model .{0,40}(?:not found|does not exist|doesn't exist|not (?:yet )?ready"
        r"|in ?service)",
        example="Custom models require provisioned throughput.",
    ),
    _rule(
        R.NEEDS_INFERENCE_PROFILE,
        r"on-demand (?:throughput|invocation|inference)[^.]{0,20}"
        r"(?:isn't|is not|not|aren't|unsupported)",
        r"id or arn of an inference profile",
        r"(?:n't|not) support on-demand",
        r"(?:requires?|needs?|must (?:use|be (?:called|invoked) (?:with|through|via))|only "
        r"[^.]{0,30}(?:through|via|with|using)) "
        r"[^.]{0,30}inference[ -]profile",
        example="Retry your request with the ID or ARN of an inference profile that contains this "
        "model.",
    ),
)


# The network between us and AWS. botocore and urllib3 put causes inside longer sentences, so the
# more specific rule goes first.
_NETWORK = (
    _rule(
        R.PROXY,
        r"(?:connect to|reach|resolve) (?:the )?proxy",
        r"proxy ?(?:error|connection|authentication)",
        r"tunnel connection failed",
        r"\bproxy\b.{0,40}(?:refused|required|unreachable|407)",
        r"407 proxy",
        example='Failed to connect to proxy URL: "http://proxy:8080"',
    ),
    _rule(
        R.DNS,
        r"name or service not known",
        r"nodename nor servname",
        r"name resolution",
        r"failed to resolve",
        r"getaddrinfo",
        r"\b(?:enotfound|eai_again|nxdomain|unknownhostexception|nameresolutionerror)\b",
        r"no such host",
        r"no address associated with hostname",
        r"could not resolve host",
        r"unknown host",
        r"dns (?:error|lookup|resolution|failure)",
        r"failed to lookup address",
        example="getaddrinfo ENOTFOUND bedrock-runtime.ap-south-1.amazonaws.com",
    ),
    _rule(
        R.TLS,
        r"ssl validation failed",
        r"certificate_?verify_?failed",
        r"certificate (?:verify|verification|has expired|is not trusted|signed by unknown)",
        r"self[- ]signed certificate",
        r"unable to (?:get|verify)[^.]{0,20} (?:issuer|first|leaf|local) .{0,20}certificate",
        r"unable_to_(?:get|verify)\w*",
        r"\b(?:ssl|tls)\w*[: _-]{1,2}[^.]{0,40}(?:handshake|error|failure|wrong_version|eof|alert)",
        r"\b(?:ssl|tls) handshake",
        r"\b(?:ssl|tls) connection (?:could not|cannot|failed)",
        r"x509:",
        r"eof occurred in violation of protocol",
        r"wrong version number",
        r"sslhandshakeexception|pkix path building",
        r"invalid peer certificate",
        example="SSL validation failed: self-signed certificate in certificate chain",
    ),
    _rule(
        R.CONNECT_TIMEOUT,
        r"connect(?:ion)? ?time(?:d)? ?out",
        r"connect timeout",
        r"without establishing a connection",
        r"connecttimeouterror",
        r"timed? ?out (?:while )?(?:trying to |attempting to )?(?:establish|connect)",
        r"connection to [^ ]+ timed out",
        r"dial tcp[^.]{0,60}i/o timeout",
        r"\bconnect etimedout\b",
        r"und_err_connect_timeout",
        r"acquire operation took longer",
        r"kind: timeout.{0,80}http connect",
        unless=r"read time(?:d )?out|timeout passed",
        example="connect ETIMEDOUT 3.5.4.2:443",
    ),
    _rule(
        R.READ_TIMEOUT,
        r"read time(?:d )? ?out",
        r"(?:response|socket|stream|body|request|client) (?:read )?time(?:d )? ?out",
        r"timeout (?:was reached|awaiting|waiting|while|exceeded|reading)",
        r"(?:context )?deadline exceeded",
        r"(?:http )?request (?:\w+ )?timed out",
        r"\b(?:etimedout|esockettimedout)\b",
        r"operation timed out",
        r"(?:und_err_(?:headers|body)_timeout|apicall(?:attempt)?timeoutexception)",
        r"readtimeoutexception",
        r"(?:did not complete|elapsing|elapsed)\b[^.]{0,60}timeout|timeout of \d+[^.]{0,20}elaps",
        r"timed out because of no activity",
        r"kind: timeout",
        r"timeout passed",  # LiteLLM says "connection timed out" for every timeout
        r"(?:did not complete|took longer) (?:with)?in .{0,40}(?:client|configured|timeout)",
        unless=r"model has timed out|model timed out",
        example="java.net.SocketTimeoutException: Read timed out",
    ),
    _rule(
        R.CONNECTION_REFUSED,
        r"could not connect to the endpoint",
        r"connection (?:was |is )?(?:refused|reset|aborted|closed|broken|terminated|lost)",
        r"remote ?disconnected",
        r"remote end closed connection",
        r"server disconnected",
        r"socket hang up",
        r"other side closed",
        r"broken pipe",
        r"\b(?:econnrefused|econnreset|epipe|ehostunreach|enetunreach)\b",
        r"(?:network is|host is|endpoint is) unreachable",
        r"no route to host",
        r"failed to establish a new connection",
        r"actively refused",
        r"all connection attempts failed",
        r"target server failed to respond",
        r"dispatch ?failure",
        r"tcp connect error",
        r"(?:cannot|failed to|unable to|could not) connect to "
        r"(?:host|the endpoint|endpoint|https?:|bedrock)",
        r"(?:network|connection) (?:error|failure|connection lost)",
        r"fetch failed",
        r"unable to execute http request",
        r"error sending request for url",
        r"err_http2_\w+|und_err_socket|nghttp2_\w+|client connection lost|goaway",
        r"connectexception|nohttpresponseexception|networkingerror",
        r"http/?2 (?:stream|connection|session) (?:was )?(?:closed|error|reset)",
        unless=r"incomplete ?read|(?:un)?expected (?:eof|end)|more expected",
        example="socket hang up",
    ),
)

# Too many requests or tokens.
_LIMITS = (
    _rule(
        R.DAILY_TOKENS,
        r"(?:tokens?|requests?|invocations?|quota|limit)\b[^.]{0,30}(?: per | for the |/ ?)day",
        r"\bdaily\b[^.]{0,40}(?:limit|quota|tokens?|requests?|usage|allowance)",
        r"(?:limit|quota)[^.]{0,30}(?:for )?today",
        r"\b(?:tpd|rpd)\b",
        example="Too many tokens per day, please wait before trying again.",
    ),
    _rule(
        R.ZERO_QUOTA,
        r"exceeded your current quota",
        r"(?:quota|limit)s?\b[^.]{0,120}(?:is|are|of|value:?|set to|applied(?: value)?:?) "
        r"(?:currently )?0(?:[.·]0+)?(?![\d,])",
        r"\bzero (?:quota|limit)",
        r"(?:quota|limit) (?:is |of )?zero",
        example="The quota for on-demand requests per minute for this model is 0.",
    ),
    _rule(
        R.THROTTLED_TOKENS,
        r"too many (?:\w+ )?tokens",
        r"token (?:rate|throughput|bucket|limit per)",
        r"tokens?[ -]per[ -](?:minute|second)",
        r"\btpm\b",
        r"rate of tokens",
        unless=r"input tokens (?!per)|maximum (?:context|length)"
        r"|exceeds? (?:the )?(?:model|context)|too many tokens in",
        example="Too many tokens, please wait before trying again.",
    ),
    _rule(
        R.THROTTLED_REQUESTS,
        r"too many (?:\w+ )?(?:requests|connections|calls|invocations)",
        r"too ?many ?requests ?exception",
        r"(?:request |call )?rate (?:is too high|exceeded|limit(?:ed|s)?\b)",
        r"rate[ -]?limit",
        r"exceeds? (?:the )?(?:request|rate)",
        r"(?:is|was|been|being|getting|due to|request) thrott",
        r"throttl(?:ed|ing)",
        r"reduce (?:the |your )?(?:frequency|rate|request rate)",
        r"slow ?down",
        r"(?:requests?|invocations?)[ -]per[ -](?:minute|second)",
        r"\brpm\b",
        r"concurren(?:t|cy)[^.]{0,40}(?:limit|exceed|quota|too many)",
        example="Too many requests, please wait before trying again.",
    ),
)

# A response that did not arrive whole. Before the network, because a broken stream also says
# "connection broken".
_CUT = (
    _rule(
        R.MODEL_TIMEOUT,
        r"model (?:has )?timed out",
        r"model (?:invocation|processing|request|response) (?:has )?time(?:d )?out",
        r"processing time exceeded",
        r"timed out before the model (?:produced|returned|sent)",
        r"exceeded the (?:model )?(?:timeout|time ?out)(?: length)?",
        r"took too long to (?:process|respond|generate|complete)",
        r"did not respond (?:in|within)",
        r"model ?timeout",
        example="Model has timed out in processing the request.",
    ),
    _rule(
        R.STREAM_CORRUPT,
        r"checksum ?mismatch",
        r"(?:checksum|crc)[^.]{0,30}(?:mismatch|does not match|failed)",
        r"(?:header|payload) length of \d+ exceed",
        r"invalid event ?stream",
        r"first event was not of the correct type",
        example="Checksum mismatch: expected 0x0a1b2c3d, calculated 0x00000000",
    ),
    _rule(
        R.STREAM_ERROR,
        r"\bresponse·failed\b",
        r"(?:server|service|model|internal|api) error[^.]{0,20} mid-?\w+",
        example="response.failed event in the stream",
    ),
    _rule(
        R.READ_TIMEOUT,
        r"(?:stream|response)\b[^.]{0,60}\b(?:hangs|hung|stalls|stalled)\b",
        example="The stream stalled after 2 events",
    ),
    _rule(
        R.STREAM_TRUNCATED,
        r"incomplete ?read",
        r"\d+ bytes read, (?:but total bytes expected|\d+ more expected)",
        r"\d+ read, but total bytes expected",
        r"response (?:ended|payload is not completed|ended prematurely)",
        r"(?:stream|response|connection)[^.]{0,40}"
        r"(?:ended|closed|terminated|finished|stopped|cut|interrupted|aborted) "
        r"(?:prematurely|unexpectedly|early|before (?:the )?(?:\w+ )?"
        r"(?:complete|finish|end|stop|done|response|final)|without|mid-?\w+|abruptly)",
        r"truncated (?:event|stream|message|response|chunk|frame)",
        r"(?:event|stream|message|response|frame)s?(?: was| is| were)? truncated",
        r"err_stream_premature_close|incompletemessage",
        r"(?:never|not) (?:sent|received|got|seen) (?:a |the |any )?"
        r"(?:message_?stop|finish|final|stop|terminal|end)[ _]?(?:event|chunk|reason|frame)?",
        r"premature (?:close|end)",
        r"unexpected (?:eof|end of (?:stream|file|json|data))",
        r"invalidchunklength|incomplete chunked read",
        r"(?:without|missing|no|before) (?:an? |any |the )?(?:messagestop|message_stop"
        r"|metadata event|final (?:event|chunk|message)|(?:finish|stop)_?reason|terminal event"
        r"|completion event)",
        example="IncompleteRead(0 bytes read, 21 more expected)",
    ),
)

# Only where no throttling code says that waiting helps.
_QUOTA = (
    _rule(
        R.ZERO_QUOTA,
        r"service ?quota ?exceeded",
        r"exceed(?:s|ed|ing)? (?:the |your |this )?(?:account'?s? )?service quotas?",
        r"exceed(?:s|ed|ing)? (?:the |your )?(?:account'?s? )(?:quota|limit)",
        example="Your request exceeds your account's service quota.",
    ),
)

# What the service could not do.
_SERVICE = (
    _rule(
        R.MODEL_NOT_READY,
        r"model is(?:n't| not) (?:yet )?ready",
        r"not (?:yet )?ready (?:for inference|to serve)",
        r"model is (?:still )?(?:loading|warming|being (?:loaded|copied|imported|prepared))",
        r"modelnotready",
        r"cold start",
        example="Model is not ready for inference. Wait and try your request again.",
    ),
    _rule(
        R.MODEL_ERROR,
        r"model produced (?:an )?invalid",
        r"invalid sequence as part of tool ?use",
        r"malformed model output",
        r"model (?:encountered|returned|failed with) an? (?:unexpected |internal )?error",
        r"(?:unexpected|internal) error[^.]{0,40}(?:processing|from|by|in) the model",
        r"received (?:server|client) error \(\d+\) from (?:the )?(?:primary|model)",
        example="Model produced invalid sequence as part of ToolUse.",
    ),
    _rule(
        R.SERVICE_UNAVAILABLE,
        r"(?:bedrock|service|model|server|system)\b[^.]{0,20} (?:is |are )?"
        r"(?:temporarily |currently |now )?"
        r"(?:unavailable|overloaded|unable to process|unable to handle|at capacity|experiencing)",
        r"(?:is|are) (?:temporarily|currently) unavailable",
        r"service ?unavailable",
        r"unable to process your request",
        r"(?:no|not enough|insufficient|exceeded|limited) (?:\w+ )?capacity",
        r"overloaded",
        r"high (?:demand|load|traffic|volume)",
        r"bad gateway|gateway time-?out",
        r"upstream connect error",
        r"temporarily unable",
        example="Bedrock is unable to process your request.",
    ),
    _rule(
        R.INTERNAL_ERROR,
        r"(?:system|service|server|bedrock) (?:has )?encountered an (?:unexpected|internal)",
        r"unexpected error during processing",
        r"internal ?(?:server ?error|failure|service ?error|error)",
        r"unexpected(?:ly)? (?:server |service |internal )error",
        r"error (?:occurred )?(?:while|during) processing (?:your|the) request",
        r"try your request again",
        unless=r"validation|malformed|invalid|not supported|n't support|conversation",
        example="The system encountered an unexpected error during processing. Try your request "
        "again.",
    ),
)

# The conversation: refused for its content or its length.
_CONTENT = (
    _rule(
        R.CONTEXT_TOO_LONG,
        r"input length and \W?max_tokens\W? exceed",
        r"too many total text bytes",
        example="Input length and `max_tokens` exceed context limit: 188240 + 21333 > 200000",
    ),
    _rule(
        R.CONTEXT_TOO_LONG,
        r"(?:prompt|input|request|conversation|context|message|text|document)s? (?:is|are|was) "
        r"too (?:long|large)",
        r"input (?:text )?(?:is )?too long",
        r"too many (?:input|prompt) tokens",
        r"input tokens? exceed",
        r"(?:exceed|exceeds|exceeded|exceeding|larger than|longer than|greater than|beyond|over"
        r"|reached|surpass\w*) "
        r"(?:the |this |its |a |your )?(?:model'?s? |model )?(?:maximum |max |allowed |total )*"
        r"(?:context|input|prompt|token|sequence)[ -]?(?:window|length|limit|size|tokens?)",
        r"context (?:window|length|limit|size)[^.]{0,30}(?:exceed|limit|reached|is)",
        r"contextwindowexceeded",
        r"max(?:imum)? (?:context|prompt|input|sequence) (?:length|window|tokens?|size)",
        r"(?:reduce|shorten) (?:the |your )?(?:length|size) of (?:the |your )?"
        r"(?:prompt|input|messages?|context)",
        r"(?:reduce|shorten|truncate) (?:the |your )?(?:prompt|input|context|messages)",
        r"\d+ tokens? > \d+",
        r"maximum of \d+ (?:pdf )?pages",
        r"number of (?:input )?tokens[^.]{0,40}exceed",
        r"(?:malformed input request|format your input)?.{0,80}expected maxlength: \d+, actual: "
        r"\d+",
        unless=r"max_?(?:new_?|output_?|gen_?|completion_?)?tokens[^.]{0,30}"
        r"(?:exceed|is too|must|cannot|larger|greater)"
        r"|maximum tokens you requested|image|document size|"
        r"(?:toolconfig|tools|name|stop_?sequences)[^ ]*: expected maxlength",
        example="prompt is too long: 227255 tokens > 200000 maximum",
    ),
    _rule(
        R.CONTENT_FILTER,
        r"content[ -]?(?:filter|moderation|policy|polic(?:y|ies)|safety)",
        r"responsible ai",
        r"(?:blocked|flagged|filtered|refused|rejected) (?:by|because|due to)[^.]{0,40}"
        r"(?:filter|polic|aup|safety|moderation)",
        r"acceptable use",
        r"violat\w+ [^.]{0,60}polic",
        r"safety (?:filter|system|reasons)",
        unless=r"guardrail|not authorized|permission|access",
        example="Output blocked by content filtering policy",
    ),
    _rule(
        R.GUARDRAIL,
        r"guardrail[ _]?intervened",
        r"(?:blocked|intervened|stopped|denied|rejected) (?:by|due to) (?:the |a |your |an )?"
        r"(?:\w+ )?guardrail",
        r"guardrail[^.]{0,30} (?:blocked|intervened|stopped|rejected)",
        example="The request was blocked by a guardrail.",
    ),
)

# The request, after everything more specific: a parameter or a kind of input that the model does
# not take.
_REQUEST = (
    _rule(
        R.WRONG_ROUTE,
        r"bedrock-mantle",
        r"(?:not (?:available|supported|served)|isn't (?:available|supported)) "
        r"(?:on|through|via|by|with|in) (?:the )?(?:bedrock[ -]runtime|this endpoint)",
        unless=r"invalid_api_key|https?://bedrock-mantle",
        example="This model is served on the bedrock-mantle endpoint.",
    ),
    _rule(
        R.MODALITY_NOT_SUPPORTED,
        r"(?:image|video|audio|document|vision|multimodal|pdf|speech|embedding)s?\b[^.]{0,60}"
        r"(?:n't|not|un) ?support",
        r"(?:n't|not) support\w*[^.]{0,60}\b(?:images?|video|audio|documents?|vision|multimodal"
        r"|pdfs?|speech|modalit)",
        r"doesn't support the model that you provided",
        r"supported (?:text or chat|chat|text|embedding) model",
        r"media type\b[^.]{0,60}not supported",
        r"(?:model|operation|action|api)[^.]{0,40}(?:n't|not) support(?:ed)?[^.]{0,20}"
        r"(?:converse|invoke ?model|count ?tokens|counting tokens|async|the model)",
        unless=r"(?:image|document|file)\w* (?:format|type)|s3uri|format of the",
        example="This model doesn't support the image content block that you provided.",
    ),
    _rule(
        R.NOT_IN_REGION,
        r"(?:model|profile|operation|service|feature|bedrock|identifier)\b[^.]{0,80}"
        r"(?:not|n't|un) ?(?:be )?(?:yet )?"
        r"(?:available|supported|offered|enabled|exist)[^.]{0,30}\b(?:in|for|from) "
        r"[^.]{0,25}region",
        r"(?:not|n't|un) ?(?:yet )?(?:available|supported|offered) in "
        r"(?:the |this |your |that |aws )*(?:[\w-]+ )?region",
        r"(?:not|un)(?:available|supported| available| supported) in (?:the )?"
        r"(?:af|ap|ca|eu|il|me|mx|sa|us)(?:-gov)?-[a-z]+-\d",
        r"arn is invalid for the service region",
        r"unable to construct an endpoint for",
        r"service \S+ not available in region",
        example="Bedrock is not supported in this region.",
    ),
    _rule(
        R.UNKNOWN_MODEL,
        r"at 'modelid(?:entifier)?' failed to satisfy",
        r"provided model identifier is (?:invalid|not valid)",
        r"from the provided model identifier",
        example="The provided model identifier is invalid.",
    ),
    _rule(
        R.UNKNOWN_MODEL,
        r"(?:model|model id|modelid|inference profile|profile)(?: identifier| arn| name)? "
        r"(?:is|you \w+ is|provided is|specified is) "
        r"(?:invalid|not valid|unknown|not recognized)",
        r"provided (?:model|inference profile)[^.]{0,20} (?:is )?(?:invalid|not valid)",
        r"invalid (?:model|inference profile|provisioned model)(?: id| identifier| arn| name)?\b",
        r"could not (?:resolve|find) (?:the )?(?:foundation )?(?:model|inference profile)",
        r"(?:model|inference profile|profile)\b[^.]{0,80}"
        r"(?:not found|does(?:n't| not) exist|could ?n[o']t be found|cannot be found|was not "
        r"found)",
        r"no (?:such )?(?:foundation )?model (?:found|with|named|exists)",
        r"(?:unknown|unrecognized) model",
        r"the requested (?:model|resource)[^.]{0,30} "
        r"(?:not found|does not exist|could not be found)",
        unless=r"guardrail|knowledge base|tool",
        example="Model not found",
    ),
    _rule(
        R.MALFORMED_REQUEST,
        r"json-rpc error -326\d\d",
        r"failed to deserialize the json body",
        example="JSON-RPC error -32602: Job registration failed: Unsupported feature",
    ),
    _rule(
        R.PARAMETER_NOT_SUPPORTED,
        r"\b(?:previous_response_id|reasoning_effort|verbosity|logprobs|logit_bias)\b[^.]{0,40}"
        r"(?:n't|not) (?:supported|allowed|accepted)",
        r"(?:invalid|unsupported) value\b[^.]{0,80}\. ?(?:supported|allowed|valid) values are",
        r"\bparameters? (?:is|are)(?: not|n't) supported",
        r"invalid beta flag",
        r"input tag .{0,80} does not match any of the expected tags",
        r"requires --enable-[a-z-]+",
        example="Invalid value: '1h'. Supported values are: '30m'.",
    ),
    _rule(
        R.PARAMETER_NOT_SUPPORTED,
        r"(?:temperature|top_?p|top_?k|max_?\w*tokens|thinking|budget_tokens|effort"
        r"|stop_?sequences?|tool_?choice|cache\w*|system \w+"
        r"|latency|service ?tier|performanceconfig|output_?config|prefill)"
        r"[`'\" ]*[^.]{0,80}(?:n't|not|un|no longer) ?(?:be )?"
        r"(?:supported|allowed|permitted|available|accepted|specified|set|both|compatible)",
        r"(?:is|are) deprecated for this model",
        r"cannot both be specified",
        r"(?:model|operation|action|it)\b[^.]{0,40} (?:does(?:n't| not)|do not|can(?:not|'t)) "
        r"(?:currently )?(?:support|accept|allow)",
        r"(?:is|are)(?:n't| not| un)? ?(?:un)?supported (?:for|by|with|on|when using|in) "
        r"(?:this|the|your|that) (?:model|operation)",
        r"(?:not|un) ?supported (?:for|by|with|on) [^.]{0,60}model",
        r"model is unsupported for",
        r"unsupported (?:parameter|field|feature|value|option)",
        r"maximum tokens you requested exceeds",
        r"exceeds (?:the )?model (?:limit|maximum)",
        r"may only be set",
        r"does not support parameters",
        r"did not allow prompt caching",
        r"pre-?fill\w* (?:the|is|not)",
        unless=r"region|format (?:of|is)",
        example="This model doesn't support the stopSequences field.",
    ),
)

# The least specific words, hence last.
_SHAPE = (
    _rule(
        R.MALFORMED_REQUEST,
        r"malformed input",
        r"validation (?:error|failed|exception)",
        r"parameter validation failed",
        r"a conversation must (?:start|alternate|end)",
        r"(?:extraneous|required) key",
        r"extra inputs are not permitted",
        r"field required",
        r"required (?:field|parameter|property|key)",
        r"reformat your input",
        r"(?:content|text) field[^.]{0,60}(?:is|was) (?:empty|blank)",
        r"(?:is|are) (?:invalid|malformed|blank|empty|required|not valid)\b",
        r"must (?:be|have|contain|match|satisfy|not|start|end|alternate|include|specify)",
        r"(?:should|cannot|can't|can only) (?:be|have|contain|match)",
        r"invalid (?:request|input|parameter|json|type|value|schema|format|base64|image|document"
        r"|body|payload|content)",
        r"could not (?:process|decode|parse) (?:the )?(?:image|document|video|input|request|body)",
        r"(?:image|document|video|file)s?\b[^.]{0,60}(?:exceed|too (?:large|big|many))",
        r"does not match (?:the )?(?:schema|pattern)",
        r"expected (?:type|max|min|one|a |an |string|object|array|number|boolean|integer|`|')",
        r"failed to satisfy constraint",
        r"(?:unexpected|unknown|unrecognized|duplicate|extraneous) "
        r"(?:key|field|parameter|property|role|name)",
        r"bad request",
        r"number of \w+ blocks",
        r"the model returned the following errors",
        r"serializationexception",
        example="Malformed input request: #: required key [messages] not found",
    ),
)


class Family(StrEnum):
    """The group of causes to search: all that a code, or the class of an error, can say."""

    ACCESS = "access"
    VALIDATION = "validation"
    NOT_FOUND = "not_found"
    THROTTLE = "throttle"
    SERVICE = "service"
    CLIENT = "client"  # raised on our side of the wire
    ANY = "any"  # no code, or that of somebody in between


# An answer of somebody else, or one that could not be read, whatever code came with it.
_FOREIGN = (*_GATEWAY, *_UNREADABLE, *_STOPPED)

RULES: dict[Family, tuple[Rule, ...]] = {
    Family.ACCESS: (*_FOREIGN, *_IDENTITY, *_ACCESS, *_MODEL_STATE, *_ROUTE, *_REQUEST),
    Family.VALIDATION: (
        *_FOREIGN, *_IDENTITY, *_ACCESS, *_MODEL_STATE, *_ROUTE, *_CONTENT, *_LIMITS, *_QUOTA,
        *_REQUEST, *_SHAPE,
    ),
    Family.NOT_FOUND: (*_FOREIGN, *_ACCESS, *_MODEL_STATE, *_ROUTE, *_REQUEST),
    Family.THROTTLE: (*_FOREIGN, *_LIMITS, *_SERVICE),
    Family.SERVICE: (*_FOREIGN, *_CUT, *_LIMITS, *_CONTENT, *_SERVICE),
    Family.CLIENT: (*_FOREIGN, *_IDENTITY, *_OURS, *_CUT, *_NETWORK, *_PAGE),
    Family.ANY: (
        *_FOREIGN, *_IDENTITY, *_OURS, *_ACCESS, *_MODEL_STATE, *_ROUTE, *_CUT, *_NETWORK,
        *_LIMITS, *_QUOTA, *_CONTENT, *_REQUEST, *_SERVICE, *_PAGE, *_SHAPE,
    ),
}  # fmt: skip
