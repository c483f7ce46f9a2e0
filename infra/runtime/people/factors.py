"""The tables of TOTP secrets, recovery codes, passkeys and accounts at providers; the store behind `api.login.factors.Store`."""

from datetime import datetime, timedelta
from hashlib import sha256
from pathlib import Path

from infra.runtime.postgres import Pool
from infra.runtime.sealing import Seal
from infra.runtime.tables import Queries
from producers.factors import Totp
from producers.passkeys import KeptPasskey, Passkey, PasskeyRow
from projections.folding.queries import load

_SQL = load(Path(__file__).with_suffix(".sql"))


class FactorTables:
    """Tables of the schema `people`. Every method raises Retryable when PostgreSQL is away."""

    def __init__(self, pool: Pool, seal: Seal) -> None:
        self._seal = seal
        self._queries = Queries(pool, _SQL)
        self.ensure = self._queries.ensure

    # --- TOTP and recovery codes ------------------------------------------------------------------------------------

    async def begin_totp(self, user_id: str, secret: str, now: datetime) -> bool:
        """Keep a secret that is yet to be proven; False when the person has a proven one."""
        sealed = self._seal.close(f"totp {user_id}", secret)
        return bool(await self._queries.ask("begin_totp", user_id=user_id, secret=sealed, now=now))

    async def totp(self, user_id: str) -> Totp | None:
        """Return a person's secret."""
        found = await self._queries.ask("totp", user_id=user_id)
        if not found:
            return None
        ((sealed, begun_at, proven_at),) = found
        return Totp(self._seal.open(f"totp {user_id}", sealed), begun_at, proven=proven_at is not None)

    async def prove_totp(self, user_id: str, begun_at: datetime, step: int, now: datetime) -> bool:
        """Let the secret of that time count from now on; False when it changed meanwhile, or counts already."""
        return bool(await self._queries.ask("prove_totp", user_id=user_id, begun_at=begun_at, step=step, now=now))

    async def accept_step(self, user_id: str, step: int) -> bool:
        """Take the step of a code, once; False when it, or a later one, is taken."""
        return bool(await self._queries.ask("accept_step", user_id=user_id, step=step))

    async def remove_totp(self, user_id: str) -> bool:
        """Delete the secret and the recovery codes; False when there is none."""
        return bool(await self._queries.ask("remove_totp", user_id=user_id))

    async def replace_codes(self, user_id: str, digests: list[bytes]) -> None:
        """Keep these recovery codes instead of the old ones."""
        await self._queries.change("replace_codes", user_id=user_id, digests=digests)

    async def has_code(self, user_id: str, digest: bytes) -> bool:
        """Return whether this is one of the person's recovery codes."""
        return bool(await self._queries.ask("has_code", user_id=user_id, digest=digest))

    async def spend_code(self, user_id: str, digest: bytes) -> bool:
        """Delete a recovery code; False when the person has none like this."""
        return bool(await self._queries.ask("spend_code", user_id=user_id, digest=digest))

    async def codes_left(self, user_id: str) -> int:
        """Return the number of a person's recovery codes."""
        return int((await self._queries.ask("codes_left", user_id=user_id))[0][0])

    # --- passkeys ---------------------------------------------------------------------------------------------------

    async def add_passkey(self, user_id: str, passkey_id: str, name: str, passkey: Passkey, now: datetime) -> bool:
        """Keep a passkey; False when somebody has it."""
        values = {"credential_id": passkey.credential_id, "public_key": passkey.public_key, "sign_count": passkey.sign_count}
        return bool(await self._queries.ask("add_passkey", user_id=user_id, passkey_id=passkey_id, name=name, now=now, **values))

    async def passkeys(self, user_id: str) -> list[PasskeyRow]:
        """Return a person's passkeys, oldest first."""
        return [PasskeyRow(*row) for row in await self._queries.ask("passkeys", user_id=user_id)]

    async def passkey(self, credential_id: bytes) -> KeptPasskey | None:
        """Return the passkey with this id, and its owner."""
        found = await self._queries.ask("passkey", credential_id=credential_id)
        return KeptPasskey(found[0][0], found[0][1], Passkey(credential_id, *found[0][2:])) if found else None

    async def use_passkey(self, credential_id: bytes, sign_count: int, now: datetime) -> bool:
        """Note the new sign count of a passkey; False when another request was faster."""
        return bool(await self._queries.ask("use_passkey", credential_id=credential_id, sign_count=sign_count, now=now))

    async def remove_passkey(self, user_id: str, passkey_id: str) -> bool:
        """Delete a person's passkey; False when they have none like this."""
        return bool(await self._queries.ask("remove_passkey", user_id=user_id, passkey_id=passkey_id))

    async def remove_passkeys(self, user_id: str) -> list[str]:
        """Delete all passkeys of a person; return their ids."""
        return [row[0] for row in await self._queries.ask("remove_passkeys", user_id=user_id)]

    # --- accounts at providers --------------------------------------------------------------------------------------

    async def link(self, issuer: str, subject: str, user_id: str, now: datetime) -> str:
        """Note whose account this is, unless it is somebody's already; return the owner."""
        await self._queries.change("link", issuer=issuer, subject=subject, user_id=user_id, now=now)
        found = await self.linked(issuer, subject)
        return found or user_id

    async def linked(self, issuer: str, subject: str) -> str | None:
        """Return the owner of an account at a provider."""
        found = await self._queries.ask("linked", issuer=issuer, subject=subject)
        return str(found[0][0]) if found else None

    async def forget(self, user_id: str) -> None:
        """Delete everything about a person."""
        await self._queries.change("forget", user_id=user_id)

    # --- challenges -------------------------------------------------------------------------------------------------

    async def keep_challenge(self, purpose: str, text: bytes, holder: str, data: str, now: datetime, life: timedelta) -> None:
        """Keep a challenge by its digest, for one answer from its holder."""
        values = {"holder": holder, "data": data, "now": now, "expires_at": now + life}
        await self._queries.change("keep_challenge", purpose=purpose, digest=sha256(text).digest(), **values)

    async def take_challenge(self, purpose: str, text: bytes, holder: str, now: datetime) -> str | None:
        """Return the data of a challenge and delete it; None when it was answered, has expired, or is another holder's."""
        values = {"purpose": purpose, "digest": sha256(text).digest(), "holder": holder, "now": now}
        found = await self._queries.ask("take_challenge", **values)
        return str(found[0][0]) if found else None
