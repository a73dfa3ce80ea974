"""A WhatsApp account of a test: a party inside a Node process, and the address others use."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from tests.interop.node import NodePeer

ALICE = "15550100001@s.whatsapp.net"
BOB = "15550100002@s.whatsapp.net"
GROUP = "120363000000000010@g.us"


@dataclass(frozen=True)
class Account:
    """One party of a NodePeer; its name there is its jid."""

    node: NodePeer
    jid: str

    async def call(self, op: str, **arguments: Any) -> Any:
        return await self.node.call(op, party=self.jid, **arguments)

    async def open(self, kind: str, **options: Any) -> Any:
        return await self.call("open", kind=kind, **options)

    async def meet(self, other: Account) -> None:
        """Fetch the other's pre-key bundle, as before the first message to it."""
        await self.call("inject", jid=other.jid, bundle=await other.call("bundle"))

    async def tell(self, other: Account, text: str) -> None:
        """Send a message, and see that exactly this text arrives."""
        message = await self.call("encrypt", jid=other.jid, text=text)
        assert await other.call("decrypt", jid=self.jid, **message) == text

    async def invite(self, other: Account) -> None:
        """Give the other our sender key of the group."""
        sent = await self.call("encrypt-group", group=GROUP, me=self.jid, text="welcome")
        await other.call("accept-sender-key", group=GROUP, author=self.jid, skdm=sent["skdm"])
        await self._deliver(other, sent["ciphertext"], "welcome")

    async def tell_group(self, other: Account, text: str) -> None:
        """Send a message to the group, and see that the other member reads exactly this text."""
        sent = await self.call("encrypt-group", group=GROUP, me=self.jid, text=text)
        await self._deliver(other, sent["ciphertext"], text)

    async def _deliver(self, other: Account, ciphertext: str, text: str) -> None:
        arguments = {"group": GROUP, "author": self.jid, "ciphertext": ciphertext}
        assert await other.call("decrypt-group", **arguments) == text
