"""A provider of logins on this machine: Authlib's server behind real HTTP, strict about PKCE and nonces, and able to lie."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from threading import Thread
from typing import Any
from urllib.parse import unquote

from authlib.integrations.flask_oauth2.authorization_server import AuthorizationServer
from authlib.oauth2.rfc6749 import ClientMixin, OAuth2Error
from authlib.oauth2.rfc6749.grants import AuthorizationCodeGrant
from authlib.oauth2.rfc7636 import CodeChallenge
from authlib.oauth2.rfc9207 import IssuerParameter
from authlib.oidc.core import AuthorizationCodeMixin, OpenIDCode
from flask import Flask, Response, jsonify, redirect, request
from joserfc import jwt
from joserfc.jwk import RSAKey
from werkzeug.serving import make_server

CLIENT_ID, CLIENT_SECRET = "kinolog", "a secret: with %, / and ä"
Claims = dict[str, Any]


def new_key() -> RSAKey:
    """Return a key with an id of its own."""
    return RSAKey.generate_key(2048, {"use": "sig"}, auto_kid=True)


@dataclass
class Provider:
    """The answers of a provider. A test changes them while it runs.

    `forge` changes the claims of ID tokens, `encode` makes the token; `dead` refuses every answer.
    """

    issuer: str
    claims: Claims = field(default_factory=lambda: {"sub": "person-1", "preferred_username": "anna", "groups": ["film"]})
    userinfo: Claims | None = None
    announced: Claims = field(default_factory=dict)
    key: RSAKey = field(default_factory=new_key)
    forge: Callable[[Claims], Claims] = dict
    encode: Callable[[Claims, RSAKey], str] | None = None
    dead: bool = False
    codes: dict[str, "Code"] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)

    def token(self, claims: Claims) -> str:
        """Sign claims."""
        if self.encode is not None:
            return self.encode(claims, self.key)
        return jwt.encode({"alg": "RS256", "kid": self.key.kid}, claims, self.key)

    def logout_token(self, **more: Any) -> str:
        """Return the token of a back-channel logout."""
        now = int(time.time())
        events: Claims = {"http://schemas.openid.net/event/backchannel-logout": {}}
        claims = {"iss": self.issuer, "aud": CLIENT_ID, "iat": now, "exp": now + 120, "jti": "1", "sub": self.claims["sub"]}
        return self.token(claims | {"events": events} | more)


class Client(ClientMixin):
    """The one client."""

    client_id = CLIENT_ID

    def get_client_id(self) -> str:
        return CLIENT_ID

    def get_default_redirect_uri(self) -> str:
        return ""

    def get_allowed_scope(self, scope: str) -> str:
        return scope

    def check_redirect_uri(self, redirect_uri: str) -> bool:
        return redirect_uri.endswith("/callback")

    def check_client_secret(self, client_secret: str) -> bool:
        return unquote(client_secret) == CLIENT_SECRET

    def check_endpoint_auth_method(self, method: str, endpoint: str) -> bool:
        return method in ("client_secret_basic", "client_secret_post")

    def check_response_type(self, response_type: str) -> bool:
        return response_type == "code"

    def check_grant_type(self, grant_type: str) -> bool:
        return grant_type == "authorization_code"


@dataclass
class Code(AuthorizationCodeMixin):
    """A code that was given out."""

    text: str
    redirect_uri: str
    scope: str
    nonce: str
    code_challenge: str
    code_challenge_method: str

    def get_redirect_uri(self) -> str:
        return self.redirect_uri

    def get_scope(self) -> str:
        return self.scope

    def get_nonce(self) -> str:
        return self.nonce

    def get_auth_time(self) -> int:
        return int(time.time())

    def get_acr(self) -> str:
        return ""

    def get_amr(self) -> list[str]:
        return []


def app_of(provider: Provider) -> Flask:
    """Return the provider as a web application."""
    app = Flask("provider")
    server = AuthorizationServer(app, query_client=lambda _id: Client(), save_token=lambda _token, _request: None)

    class Grant(AuthorizationCodeGrant):
        def save_authorization_code(self, code: str, asked: Any) -> None:
            data = asked.payload.data
            names = ("redirect_uri", "scope", "nonce", "code_challenge", "code_challenge_method")
            provider.codes[code] = Code(code, *(data[name] for name in names))

        def query_authorization_code(self, code: str, client: Client) -> Code | None:
            return provider.codes.get(code)

        def delete_authorization_code(self, code: Code) -> None:
            provider.codes.pop(code.text, None)

        def authenticate_user(self, code: Code) -> Claims:
            return provider.claims

    class Tokens(OpenIDCode):
        def exists_nonce(self, nonce: str, asked: Any) -> bool:
            return any(code.nonce == nonce for code in provider.codes.values())

        def encode_id_token(self, token: Claims, asked: Any) -> str:
            now = int(time.time())
            claims = {"iss": provider.issuer, "aud": [CLIENT_ID], "iat": now, "exp": now + 300}
            return provider.token(
                provider.forge(claims | provider.claims | self.get_authorization_code_claims(asked.authorization_code))
            )

    class Issuer(IssuerParameter):
        def get_issuer(self) -> str | None:
            return provider.issuer if provider.announced.get("authorization_response_iss_parameter_supported") else None

    extensions: list[Any] = [CodeChallenge(required=True), Tokens(require_nonce=True)]  # type: ignore[no-untyped-call]
    server.register_grant(Grant, extensions)
    server.register_extension(Issuer())

    @app.before_request
    def noted() -> Response | None:
        provider.asked.append(request.path)
        return Response("down", 503) if provider.dead else None

    @app.get("/.well-known/openid-configuration")
    def configuration() -> Response:
        at = provider.issuer
        document = {
            "issuer": at,
            "authorization_endpoint": f"{at}/authorize",
            "token_endpoint": f"{at}/token",
            "jwks_uri": f"{at}/jwks",
            "userinfo_endpoint": f"{at}/userinfo",
            "end_session_endpoint": f"{at}/logout",
            "id_token_signing_alg_values_supported": ["RS256"],
        }
        return jsonify(document | provider.announced)

    @app.get("/jwks")
    def keys() -> Response:
        return jsonify({"keys": [provider.key.as_dict(private=False)]})

    @app.get("/authorize")
    def authorize() -> Any:
        try:
            grant = server.get_consent_grant(end_user=provider.claims)
        except OAuth2Error as error:
            return server.handle_error_response(request, error)
        return server.create_authorization_response(grant_user=provider.claims, grant=grant)

    @app.post("/token")
    def token() -> Any:
        return server.create_token_response()

    @app.get("/userinfo")
    def userinfo() -> Response:
        return jsonify(provider.userinfo or provider.claims)

    @app.get("/logout")
    def logout() -> Any:
        return redirect(request.args["post_logout_redirect_uri"])

    return app


@contextmanager
def running_provider(port: int) -> Iterator[Provider]:
    """Serve a provider in a thread."""
    provider = Provider(f"http://localhost:{port}")
    server = make_server("localhost", port, app_of(provider), threaded=True)
    thread = Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield provider
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
