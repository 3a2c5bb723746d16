"""A local Bedrock: the real wire protocol on one port, the behaviour of real models and regions,
troubles on request.
"""
