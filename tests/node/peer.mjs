// Baileys for another language to drive: one JSON command a line on stdin, one JSON answer a line on stdout.
//
//     {"op": "open", "party": "alice", "kind": "memory"}            {"result": {"registrationId": 123, …}}
//     {"op": "encrypt", "party": "alice", "jid": "…", "text": "hi"}  {"error": {"name", "message", "code"}}
//
// Commands run in order, one at a time. Bytes are base64 text; key values and creds are the JSON documents
// that Baileys writes into files. A party is an account; `jid` is always the other one.
//
//     op                arguments                               result
//     open              kind, version = 7, cache = true         creds summary
//                       transactionOpts: Baileys' own
//         kind memory
//         kind folder       folder                  (the real useMultiFileAuthState)
//         kind supabase     company, and options of examples/node: lease, leaseTtl, owner, create, giveUpAfter, timeout; faults;
//                           lossThrows: onLeaseLost throws; encryption: keys, or {"throws"} or {"returns"} for a function
//         kind plain-json   company                 (the old mistake: no BufferJSON)
//     close                                                     null; the party is gone
//     forget                                                    null; the party is gone, nothing is closed
//     close-auth                                                null; its auth state is closed, it stays
//     creds                                                     creds as a document
//     update-creds      update (a document)                     creds summary; saved before the answer
//     bundle            preKeyId = a new one                    pre-key bundle of this account
//     inject            jid, bundle                             null; a session to write first
//     encrypt           jid, text                               {"type": "pkmsg" | "msg", "ciphertext"}
//     decrypt           jid, type, ciphertext                   text
//     encrypt-group     group, me, text                         {"ciphertext", "skdm"}
//     accept-sender-key group, author, skdm                     null
//     decrypt-group     group, author, ciphertext               text
//     store-lid         pairs: [{"lid", "pn"}]                  null              (version 7)
//     lid-for-pn        pn                                      jid or null       (version 7)
//     pn-for-lid        lid                                     jid or null       (version 7)
//     migrate           from, to                                {"migrated", …}   (version 7)
//     has-session       jid                                     whether an open one is stored  (version 7)
//     get               type, ids                               {id: document}, straight from the store
//     clear                                                     null, straight to the store
//     set               data: {type: {id: document or null}}    null, straight to the store
//     frames            plain = []: creds fields to make        {"hello", "login"}: real Noise frames
//                       plain JSON of first (the old mistake)
//     connect                                                   first bytes real makeWASocket sends to a server
//     requests                                                  requests since the last time (supabase)
//     fail              faults: [{"path", "name", …}]           null; each meets one request (supabase)
//     met-faults                                                null, once all of them were met (supabase)
//     replay                                                    HTTP statuses of all but reads, sent again (supabase)
//     lease-lost                                                message, once the lease is lost (supabase)
//     lease-losses                                              messages of all calls of onLeaseLost until now (supabase)
//     together          commands                                their answers; they run at the same time
import { createInterface } from 'node:readline'
import { openAuthState } from './auth-states.mjs'
import { fromDocument, loadBaileys, silenceConsole, toDocument } from './baileys.mjs'
import { firstFrame } from './first-frame.mjs'
import { encodeFrames } from './noise.mjs'
import { Party } from './party.mjs'

const parties = new Map()

const find = name => {
	const party = parties.get(name)
	if (!party) throw new Error(`no party "${name}" is open`)
	return party
}

const summary = ({ registrationId, nextPreKeyId, firstUnuploadedPreKeyId, me, signedIdentityKey }) => ({
	registrationId,
	nextPreKeyId,
	firstUnuploadedPreKeyId,
	me: me ?? null,
	identity: Buffer.from(signedIdentityKey.public).toString('base64')
})

const open = async ({ party: name, version, cache, transactionOpts, ...place }) => {
	if (parties.has(name)) throw new Error(`party "${name}" is open already`)
	const baileys = await loadBaileys(version)
	const party = new Party(baileys, await openAuthState(baileys, place), { cache, transactionOpts })
	parties.set(name, party)
	return summary(party.creds)
}

const documents = ({ baileys }, values) =>
	Object.fromEntries(
		Object.entries(values).flatMap(([id, value]) => (value ? [[id, toDocument(baileys, value)]] : []))
	)

const withParty = {
	close: async (party, { party: name }) => {
		parties.delete(name)
		await party.close()
	},
	'close-auth': party => party.auth.close(),
	'log-out': party => party.auth.logOut(),
	creds: party => toDocument(party.baileys, party.creds),
	'update-creds': async (party, { update }) => {
		await party.updateCreds(fromDocument(party.baileys, update))
		return summary(party.creds)
	},
	bundle: (party, { preKeyId }) => party.bundle(preKeyId),
	inject: (party, { jid, bundle }) => party.inject(jid, bundle),
	encrypt: (party, { jid, text }) => party.encrypt(jid, text),
	decrypt: (party, { jid, ...message }) => party.decrypt(jid, message),
	'encrypt-group': (party, { group, me, text }) => party.encryptGroup(group, me, text),
	'accept-sender-key': (party, { group, author, skdm }) => party.acceptSenderKey(group, author, skdm),
	'decrypt-group': (party, { group, author, ciphertext }) => party.decryptGroup(group, author, ciphertext),
	'store-lid': (party, { pairs }) => party.signal.lidMapping.storeLIDPNMappings(pairs),
	'lid-for-pn': (party, { pn }) => party.signal.lidMapping.getLIDForPN(pn),
	'pn-for-lid': (party, { lid }) => party.signal.lidMapping.getPNForLID(lid),
	migrate: (party, { from, to }) => party.signal.migrateSession(from, to),
	'has-session': async (party, { jid }) => (await party.signal.validateSession(jid)).exists,
	get: async (party, { type, ids }) => documents(party, await party.auth.state.keys.get(type, ids)),
	set: (party, { data }) => party.auth.state.keys.set(fromDocument(party.baileys, data)),
	clear: party => party.auth.state.keys.clear(),
	frames: (party, { plain = [] }) => {
		const damaged = plain.map(field => [field, JSON.parse(JSON.stringify(party.creds[field]))])
		return encodeFrames(party.baileys, { ...party.creds, ...Object.fromEntries(damaged) })
	},
	connect: party => firstFrame(party.baileys, party.auth.state),
	requests: party => party.auth.requests.splice(0),
	fail: (party, { faults }) => void party.auth.faults.push(...faults),
	'met-faults': party => party.auth.faultsMet(),
	replay: party => party.auth.replay(),
	'lease-lost': async party => (await party.auth.leaseLost).message,
	'lease-losses': party => party.auth.losses
}

const run = command => {
	if (command.op === 'open') return open(command)
	if (command.op === 'forget') return void parties.delete(command.party)
	if (command.op === 'together') return Promise.all(command.commands.map(answer))
	const perform = withParty[command.op]
	if (!perform) throw new Error(`no command "${command.op}"`)
	return perform(find(command.party), command)
}

const answer = async command => {
	try {
		return { result: (await run(command)) ?? null }
	} catch ({ name, message, code }) {
		return { error: { name, message, code } }
	}
}

silenceConsole()
for await (const line of createInterface({ input: process.stdin })) {
	process.stdout.write(JSON.stringify(await answer(JSON.parse(line))) + '\n')
}
process.exit() // Baileys' caches keep timers; whoever ends our stdin is done with us
