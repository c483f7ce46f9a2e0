"""The tables of second factors, in memory; tests/contract/test_factor_tables.py holds it to what the real ones do."""

from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

from producers.factors import Totp
from producers.passkeys import KeptPasskey, Passkey, PasskeyRow


@dataclass
class MemoryFactors:
    """An `api.login.second.Store`, an `api.login.passkeys.Store`, and the accounts at providers."""

    secrets: dict[str, Totp] = field(default_factory=dict)
    steps: dict[str, int] = field(default_factory=dict)
    codes: dict[str, set[bytes]] = field(default_factory=dict)
    kept: dict[bytes, KeptPasskey] = field(default_factory=dict)
    rows: dict[bytes, PasskeyRow] = field(default_factory=dict)
    links: dict[tuple[str, str], str] = field(default_factory=dict)
    challenges: dict[tuple[str, bytes, str], tuple[str, datetime]] = field(default_factory=dict)

    async def begin_totp(self, user_id: str, secret: str, now: datetime) -> bool:
        if user_id in self.secrets and self.secrets[user_id].proven:
            return False
        self.secrets[user_id] = Totp(secret, now, proven=False)
        return True

    async def totp(self, user_id: str) -> Totp | None:
        return self.secrets.get(user_id)

    async def prove_totp(self, user_id: str, begun_at: datetime, step: int, now: datetime) -> bool:
        totp = self.secrets.get(user_id)
        if totp is None or totp.proven or totp.begun_at != begun_at:
            return False
        self.secrets[user_id], self.steps[user_id] = replace(totp, proven=True), step
        return True

    async def accept_step(self, user_id: str, step: int) -> bool:
        if user_id not in self.secrets or not self.secrets[user_id].proven or self.steps[user_id] >= step:
            return False
        self.steps[user_id] = step
        return True

    async def remove_totp(self, user_id: str) -> bool:
        self.codes.pop(user_id, None)
        return self.secrets.pop(user_id, None) is not None

    async def replace_codes(self, user_id: str, digests: list[bytes]) -> None:
        self.codes[user_id] = set(digests)

    async def has_code(self, user_id: str, digest: bytes) -> bool:
        return digest in self.codes.get(user_id, set())

    async def spend_code(self, user_id: str, digest: bytes) -> bool:
        if not await self.has_code(user_id, digest):
            return False
        self.codes[user_id].remove(digest)
        return True

    async def codes_left(self, user_id: str) -> int:
        return len(self.codes.get(user_id, ()))

    async def add_passkey(self, user_id: str, passkey_id: str, name: str, passkey: Passkey, now: datetime) -> bool:
        if passkey.credential_id in self.kept:
            return False
        self.kept[passkey.credential_id] = KeptPasskey(user_id, passkey_id, passkey)
        self.rows[passkey.credential_id] = PasskeyRow(passkey_id, name, now, None, passkey.credential_id)
        return True

    async def passkeys(self, user_id: str) -> list[PasskeyRow]:
        return [self.rows[id_] for id_, kept in self.kept.items() if kept.user_id == user_id]

    async def passkey(self, credential_id: bytes) -> KeptPasskey | None:
        return self.kept.get(credential_id)

    async def use_passkey(self, credential_id: bytes, sign_count: int, now: datetime) -> bool:
        kept = self.kept.get(credential_id)
        if kept is None or not (kept.passkey.sign_count < sign_count or kept.passkey.sign_count == sign_count == 0):
            return False
        self.kept[credential_id] = replace(kept, passkey=replace(kept.passkey, sign_count=sign_count))
        self.rows[credential_id] = replace(self.rows[credential_id], used_at=now)
        return True

    async def remove_passkey(self, user_id: str, passkey_id: str) -> bool:
        found = [id_ for id_, kept in self.kept.items() if (kept.user_id, kept.passkey_id) == (user_id, passkey_id)]
        for id_ in found:
            del self.kept[id_], self.rows[id_]
        return bool(found)

    async def remove_passkeys(self, user_id: str) -> list[str]:
        found = [row.passkey_id for row in await self.passkeys(user_id)]
        for passkey_id in found:
            await self.remove_passkey(user_id, passkey_id)
        return found

    async def link(self, issuer: str, subject: str, user_id: str, now: datetime) -> str:
        return self.links.setdefault((issuer, subject), user_id)

    async def linked(self, issuer: str, subject: str) -> str | None:
        return self.links.get((issuer, subject))

    async def forget(self, user_id: str) -> None:
        await self.remove_totp(user_id)
        await self.remove_passkeys(user_id)
        self.links = {account: owner for account, owner in self.links.items() if owner != user_id}

    async def keep_challenge(self, purpose: str, text: bytes, holder: str, data: str, now: datetime, life: timedelta) -> None:
        self.challenges[purpose, text, holder] = data, now + life

    async def take_challenge(self, purpose: str, text: bytes, holder: str, now: datetime) -> str | None:
        data, expires_at = self.challenges.get((purpose, text, holder), ("", now))
        if expires_at <= now:
            return None
        del self.challenges[purpose, text, holder]
        return data
