"""Map each error code to the family of causes to search, and to a reason if the text has none.

A code is an AWS error code, the name of a stream's exception event, the name of a botocore or
urllib3 exception class (errors raised on our side have no AWS code), or a bare HTTP status.
`errors.translate` and `manage.py diagnose` read the same table, so that a pasted message and a
raised exception get the same diagnosis.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from certification.bedrock.rules import RULES, Family, Rule
from certification.reasons import Reason as R


@dataclass(frozen=True, slots=True)
class Code:
    """`reason` applies when no rule of the family matches the text.

    `final`: the text is not read at all. `loose`: a status or a name from the text, perhaps of
    somebody in between, so that all rules are read.
    """

    family: Family
    reason: R
    final: bool = False
    hint: str = ""
    loose: bool = False

    @property
    def rules(self) -> tuple[Rule, ...]:
        """The rules to read the text by, in order."""
        return RULES[self.family] + (RULES[Family.ANY] if self.loose else ())


def canonical(code: str) -> str:
    """Return one spelling for all: `throttling` for `com.amazon#ThrottlingException:http://...`,
    `throttlingException` and `Throttling`.
    """
    name = code.strip().rsplit("#", 1)[-1].split(":", 1)[0].rsplit(".", 1)[-1]
    name = re.sub(r"[^a-z0-9]", "", name.lower())
    return re.sub(r"(?<=.)(?:exception|error|fault)$", "", name)


def table(*rows: tuple[Code, str]) -> dict[str, Code]:
    """Return the rows by canonical name; each gives a code and the names it is for."""
    return {canonical(name): code for code, names in rows for name in names.split()}


# Codes of AWS: of the service model, of the front door, and the query-style names that proxies and
# STS still use.
AWS = table(
    (
        Code(Family.ACCESS, R.IAM_DENIED),
        "permission_error AccessDeniedException AccessDenied UnauthorizedOperation NotAuthorized "
        "UnauthorizedException ForbiddenException Forbidden NotAuthorizedException",
    ),
    (
        Code(Family.ACCESS, R.ACCOUNT_BLOCKED),
        "OptInRequired SubscriptionRequiredException PendingVerification Blocked "
        "AccountProblem AccountSuspendedException BadCScoreException",
    ),
    (Code(Family.ACCESS, R.USE_CASE_FORM), "FTUFormNotFilled"),
    (Code(Family.ACCESS, R.REGION_NOT_ENABLED), "RegionDisabledException"),
    (
        Code(Family.ACCESS, R.CREDENTIALS_EXPIRED),
        "ExpiredTokenException ExpiredToken RequestExpired TokenRefreshRequired",
    ),
    (
        Code(Family.ACCESS, R.CREDENTIALS_INVALID),
        "UnrecognizedClientException InvalidClientTokenId InvalidSignatureException "
        "SignatureDoesNotMatch IncompleteSignature AuthFailure InvalidAccessKeyId InvalidToken "
        "invalid_api_key "
        "AuthenticationError InvalidIdentityToken",
    ),
    (
        Code(Family.ACCESS, R.CREDENTIALS_MISSING),
        "MissingAuthenticationToken MissingAuthenticationTokenException",
    ),
    (Code(Family.ACCESS, R.CLOCK_SKEW), "RequestTimeTooSkewed RequestInTheFuture"),
    (
        Code(Family.VALIDATION, R.MALFORMED_REQUEST),
        "ValidationException InvalidParameterException InvalidRequestException "
        "InvalidParameterValue InvalidParameterCombination MissingParameter MalformedQueryString "
        "SerializationException "
        "InvalidAction InvalidQueryParameter MissingAction UnsupportedMediaType "
        "UnsupportedMediaTypeException MalformedHttpRequestException "
        "InvalidInput TooManyTagsException invalid_request_error validation_error",
    ),
    (
        Code(Family.VALIDATION, R.CONTEXT_TOO_LONG),
        "RequestEntityTooLargeException RequestTooLarge context_length_exceeded",
    ),
    (
        Code(Family.NOT_FOUND, R.UNKNOWN_MODEL),
        "ResourceNotFoundException ModelNotFound model_not_found not_found_error",
    ),
    (Code(Family.NOT_FOUND, R.WRONG_ROUTE), "UnknownOperationException"),
    (
        Code(Family.THROTTLE, R.THROTTLED_REQUESTS),
        "rate_limit_exceeded "
        "ThrottlingException Throttling ThrottledException TooManyRequestsException "
        "RequestThrottled RequestThrottledException RequestLimitExceeded SlowDown "
        "BandwidthLimitExceeded LimitExceededException "
        "ProvisionedThroughputExceededException PriorRequestNotComplete",
    ),
    (Code(Family.THROTTLE, R.ZERO_QUOTA), "ServiceQuotaExceededException"),
    (
        Code(Family.SERVICE, R.INTERNAL_ERROR),
        "api_error server_error "
        "InternalServerException InternalFailure InternalError InternalServerError "
        "InternalServiceException ConflictException ResourceInUseException "
        "DependencyFailedException",
    ),
    (
        Code(Family.SERVICE, R.SERVICE_UNAVAILABLE),
        "ServiceUnavailableException ServiceUnavailable Unavailable OverloadedError",
    ),
    (Code(Family.SERVICE, R.MODEL_NOT_READY), "ModelNotReadyException"),
    (Code(Family.SERVICE, R.MODEL_ERROR), "ModelErrorException"),
    (Code(Family.SERVICE, R.STREAM_ERROR), "ModelStreamErrorException"),
    (
        Code(Family.SERVICE, R.MODEL_TIMEOUT),
        "ModelTimeoutException RequestTimeout RequestTimeoutException",
    ),
)

# Raised on our side of the wire, by class name: botocore, boto3, urllib3, the standard library. A
# class that is not listed takes the row of its nearest ancestor, but a test requires every class of
# botocore and urllib3 by name.
CLIENT = table(
    (
        Code(Family.CLIENT, R.CREDENTIALS_MISSING),
        "NoCredentialsError NoAuthTokenError ProfileNotFound CredentialsProviderError "
        "UnknownCredentialError UnknownTokenProviderError CredentialsNotLoaded",
    ),
    (
        Code(Family.CLIENT, R.CREDENTIALS_MISSING, final=True),
        "PartialCredentialsError SSOTokenLoadError LoginTokenLoadError "
        "RefreshWithMFAUnsupportedError",
    ),
    (
        Code(Family.CLIENT, R.CREDENTIALS_EXPIRED, final=True),
        "UnauthorizedSSOTokenError LoginRefreshRequired",
    ),
    (
        Code(Family.CLIENT, R.CREDENTIALS_INVALID),
        "CredentialRetrievalError TokenRetrievalError SSOError LoginError "
        "LoginAuthorizationCodeError LoginInsufficientPermissions MetadataRetrievalError",
    ),
    (
        Code(Family.CLIENT, R.CONNECTION_REFUSED),
        "EndpointConnectionError ConnectionError ConnectionClosedError HTTPClientError "
        "NewConnectionError ConnectionRefusedError ConnectionResetError ConnectionAbortedError "
        "BrokenPipeError MaxRetryError "
        "RemoteDisconnected DispatchFailure "
        "ClientConnectionError ClientConnectionResetError ClientConnectorError ClientOSError "
        "UnixClientConnectorError ServerConnectionError ServerDisconnectedError",
    ),
    (
        Code(Family.CLIENT, R.DNS),
        "NameResolutionError gaierror UnknownHostException ClientConnectorDNSError",
    ),
    (
        Code(Family.CLIENT, R.TLS),
        "SSLError SSLHandshakeException ClientSSLError ClientConnectorSSLError "
        "ClientConnectorCertificateError ServerFingerprintMismatch",
    ),
    (
        Code(Family.CLIENT, R.PROXY, final=True),
        "ClientProxyConnectionError ClientHttpProxyError",
    ),
    (Code(Family.CLIENT, R.PROXY), "ProxyConnectionError ProxyError"),
    (
        Code(Family.CLIENT, R.CONNECT_TIMEOUT, final=True),
        "ConnectTimeoutError ConnectTimeout ConnectionTimeoutError",
    ),
    (
        Code(Family.CLIENT, R.READ_TIMEOUT, final=True),
        "ReadTimeoutError ReadTimeout ServerTimeoutError SocketTimeoutError",
    ),
    (
        Code(Family.CLIENT, R.READ_TIMEOUT),
        "TimeoutError APITimeoutError TimedOutError SocketTimeoutException",
    ),
    (
        Code(Family.CLIENT, R.STREAM_TRUNCATED),
        "ResponseStreamingError IncompleteReadError IncompleteRead ProtocolError "
        "InvalidChunkLength httplib_IncompleteRead "
        "ClientPayloadError",
    ),
    (
        Code(Family.CLIENT, R.STREAM_CORRUPT, final=True),
        "ChecksumMismatch DuplicateHeader InvalidHeadersLength "
        "InvalidPayloadLength NoInitialResponseError ParserError ChecksumError "
        "FlexibleChecksumError",
    ),
    (
        Code(Family.CLIENT, R.BAD_RESPONSE, final=True),
        "ResponseParserError XMLParseError ParseError JSONDecodeError UnicodeDecodeError "
        "DecodeError HeaderParsingError InvalidHeader BodyNotHttplibCompatible ResponseNotChunked "
        "BadStatusLine HTTPException "
        "LineTooLong PaginationError MessageDefect "
        "ClientResponseError ContentTypeError RedirectClientError TooManyRedirects "
        "NonHttpUrlRedirectClientError InvalidUrlRedirectClientError",
    ),
    (
        Code(Family.CLIENT, R.MALFORMED_REQUEST, final=True),
        "ParamValidationError MissingParametersError "
        "RangeError UnknownKeyError UnknownParameterError AliasConflictParameterError",
    ),
    # Our own installation or settings; the model is not to blame.
    (
        Code(Family.CLIENT, R.CLIENT_MISCONFIGURED, final=True),
        "NoRegionError InvalidRegionError UnknownRegionError "
        "InvalidEndpointConfigurationError EndpointProviderError EndpointResolutionError "
        "UnknownEndpointResolutionBuiltInName "
        "BaseEndpointResolverError EndpointVariantError UnknownEndpointError "
        "UnknownFIPSEndpointError InvalidHostLabelError "
        "ServiceNotInRegionError UnknownServiceError DataNotFoundError ApiVersionNotFoundError "
        "UnknownAPIVersionError ResourceNotExistsError NoVersionFound "
        "UnsupportedServiceProtocolsError UnsupportedSignatureVersionError "
        "UnknownSignatureVersionError UnknownServiceStyle "
        "ConfigNotFound ConfigParseError InvalidConfigError InfiniteLoopConfigError "
        "InvalidDefaultsMode InvalidProxiesConfigError "
        "InvalidRetryConfigurationError InvalidMaxRetryAttemptsError InvalidRetryModeError "
        "InvalidIMDSEndpointError "
        "InvalidIMDSEndpointModeError InvalidSTSRegionalEndpointsConfigError "
        "InvalidChecksumConfigError "
        "InvalidEndpointDiscoveryConfigurationError MissingDependencyException "
        "MissingServiceIdError UndefinedModelAttributeError "
        "MD5UnavailableError LocationParseError LocationValueError URLSchemeUnknown "
        "ProxySchemeUnknown ProxySchemeUnsupported "
        "InvalidURL InvalidUrlClientError NonHttpUrlClientError",
    ),
    # Deliberately unknown. Roots, whose subclasses are more specific:
    (
        Code(Family.CLIENT, R.UNKNOWN),
        "BotoCoreError ClientError EventStreamError UploadAbortedError WSMessageTypeError "
        "WSServerHandshakeError Boto3Error HTTPError OSError AssertionError",
    ),
    # our own pool or body in a state it should never be in:
    (
        Code(Family.CLIENT, R.UNKNOWN),
        "PoolError EmptyPoolError FullPoolError ClosedPoolError HostChangedError RequestError "
        "ResponseError TimeoutStateError UnrewindableBodyError UnseekableStreamError "
        "AwsChunkedWrapperError CapacityNotAvailableError",
    ),
    # and what no call of ours can raise (S3, waiters, stubs, endpoint discovery, JMESPath, wrong
    # use of the library):
    (
        Code(Family.CLIENT, R.UNKNOWN),
        "InvalidDNSNameError InvalidS3AddressingStyleError "
        "InvalidS3UsEast1RegionalEndpointConfigError "
        "UnsupportedOutpostResourceError UnsupportedS3AccesspointConfigurationError "
        "UnsupportedS3ArnError "
        "UnsupportedS3ConfigurationError UnsupportedS3ControlArnError "
        "UnsupportedS3ControlConfigurationError WaiterError "
        "WaiterConfigError StubResponseError StubAssertionError UnStubbedResponseError "
        "EndpointDiscoveryException "
        "EndpointDiscoveryRefreshFailed EndpointDiscoveryRequired InvalidExpressionError "
        "OperationNotPageableError "
        "UnknownClientMethodError DynamoDBNeedsConditionError DynamoDBNeedsKeyConditionError "
        "DynamoDBOperationNotSupportedError DynanmoDBOperationNotSupportedError "
        "InvalidCrtTransferConfigError "
        "ResourceLoadException RetriesExceededError S3TransferFailedError S3UploadFailedError",
    ),
)

# Names that other SDKs and gateways give to AWS errors. They name a kind, often wrongly, so they
# are read last.
WRAPPERS = table(
    (Code(Family.ANY, R.IAM_DENIED), "PermissionDeniedError"),
    (Code(Family.ANY, R.THROTTLED_REQUESTS), "RateLimitError"),
    (Code(Family.ANY, R.MALFORMED_REQUEST), "BadRequestError"),
    (Code(Family.ANY, R.PARAMETER_NOT_SUPPORTED), "UnsupportedParamsError"),
)

_STATUS_ROWS = {
    400: (Family.VALIDATION, R.MALFORMED_REQUEST),
    401: (Family.ACCESS, R.CREDENTIALS_INVALID),
    403: (Family.ACCESS, R.IAM_DENIED),
    404: (Family.NOT_FOUND, R.UNKNOWN),
    407: (Family.CLIENT, R.PROXY),
    408: (Family.SERVICE, R.MODEL_TIMEOUT),
    413: (Family.VALIDATION, R.CONTEXT_TOO_LONG),
    424: (Family.SERVICE, R.MODEL_ERROR),
    429: (Family.THROTTLE, R.THROTTLED_REQUESTS),
    500: (Family.SERVICE, R.INTERNAL_ERROR),
    502: (Family.SERVICE, R.SERVICE_UNAVAILABLE),
    503: (Family.SERVICE, R.SERVICE_UNAVAILABLE),
    504: (Family.SERVICE, R.SERVICE_UNAVAILABLE),
    529: (Family.SERVICE, R.SERVICE_UNAVAILABLE),
}
STATUSES = {
    status: Code(family, reason, loose=True) for status, (family, reason) in _STATUS_ROWS.items()
}

NONE = Code(Family.ANY, R.UNKNOWN)


def lookup(name: str) -> Code | None:
    """Return the row of a code or class name, whichever table has it."""
    key = canonical(name)
    return AWS.get(key) or CLIENT.get(key) or WRAPPERS.get(key)
