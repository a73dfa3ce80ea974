// node demo/baileys-check.mjs FOLDER [7|6]: does real Baileys take this auth folder and go on with it?
//
// Works on a copy. To encrypt is to move a ratchet, and the folder may be the way back for a live account.
import { cp, mkdtemp, readdir, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { openAuthState } from '../tests/node/auth-states.mjs'
import { loadBaileys, silenceConsole } from '../tests/node/baileys.mjs'
import { encodeFrames } from '../tests/node/noise.mjs'
import { Party } from '../tests/node/party.mjs'

const say = (what, found) => process.stdout.write(`${what.padEnd(15)} ${found}\n`)
const insist = (condition, what) => {
	if (!condition) throw new Error(what)
}

const SERVERS = { '': 's.whatsapp.net', _1: 'lid', _128: 'hosted', _129: 'hosted.lid' }

// session-200000000000100_1.12.json holds the session with 200000000000100:12@lid
const jidOfSession = file => {
	const [, user, domain = '', device] = /^session-(\d+)(_\d+)?\.(\d+)\.json$/.exec(file) ?? []
	return user && `${user}${device === '0' ? '' : `:${device}`}@${SERVERS[domain]}`
}

const account = ({ creds }, files) => {
	insist(creds.me?.id, 'the folder has no paired account: creds.json is missing or not readable')
	say('account', `${creds.me.id}, registration ${creds.registrationId}, ${files.length} files`)
}

const identity = ({ baileys, creds }) => {
	const { keyPair, signature } = creds.signedPreKey
	const signed = baileys.Curve.verify(creds.signedIdentityKey.public, baileys.generateSignalPubKey(keyPair.public), signature)
	insist(signed, 'the signed pre-key is not signed by the identity key')
	say('identity', 'its signature on the signed pre-key verifies')
}

const noise = async ({ baileys, creds }) => {
	const { hello, login } = await encodeFrames(baileys, creds)
	const routing = creds.routingInfo ? `with ${creds.routingInfo.length} bytes of routing info` : 'without routing info'
	const size = frame => Buffer.from(frame, 'base64').length
	say('noise', `hello frame of ${size(hello)} bytes ${routing}, encrypted frame of ${size(login)} bytes`)
}

const newContact = async (party, stranger, files) => {
	const [preKey] = files.flatMap(file => /^pre-key-(\d+)\.json$/.exec(file)?.[1] ?? []).sort((a, b) => a - b)
	insist(preKey, 'the folder has no pre-key for a new contact')
	const [own, other] = ['15550990001@s.whatsapp.net', '15550990002@s.whatsapp.net']
	await stranger.inject(own, await party.bundle(preKey))
	const heard = await party.decrypt(other, await stranger.encrypt(own, 'good morning'))
	const answered = await stranger.decrypt(own, await party.encrypt(other, 'good evening'))
	insist(heard === 'good morning' && answered === 'good evening', 'the conversation came out wrong')
	insist(!(await party.keys.get('pre-key', [preKey]))[preKey], `pre-key ${preKey} is still there after its use`)
	say('new contact', `first message decrypted with stored pre-key ${preKey} (now used up), answer understood`)
}

const storedSessions = async (party, files) => {
	const jids = files.map(jidOfSession).filter(Boolean)
	const types = []
	for (const jid of jids) {
		const encrypted = await party.encrypt(jid, 'are you there?').catch(error => ({ type: error.message }))
		types.push(encrypted.type)
	}
	const count = type => types.filter(one => one === type).length
	const open = count('msg') + count('pkmsg')
	insist(open || !jids.length, `none of ${jids.length} stored sessions encrypts: ${types[0]}`)
	say('sessions', `${jids.length} stored, ${open} encrypt the next message, ${jids.length - open} are closed`)
}

const group = async (party, stranger) => {
	const [id, author] = ['120363000000009990@g.us', party.creds.me.id]
	const { ciphertext, skdm } = await party.encryptGroup(id, author, 'hello all')
	await stranger.acceptSenderKey(id, author, skdm)
	insist((await stranger.decryptGroup(id, author, ciphertext)) === 'hello all', 'the group message came out wrong')
	say('group', 'a member with our sender key decrypts our message')
}

const check = async (folder, version) => {
	const baileys = await loadBaileys(version)
	const files = await readdir(folder)
	const party = new Party(baileys, await openAuthState(baileys, { kind: 'folder', folder }))
	const stranger = new Party(baileys, await openAuthState(baileys, { kind: 'memory' }))
	account(party, files)
	identity(party)
	await noise(party)
	await storedSessions(party, files)
	await newContact(party, stranger, files)
	await group(party, stranger)
}

const [folder, version = '7'] = process.argv.slice(2)
const copy = await mkdtemp(join(tmpdir(), 'baileys-check-'))
silenceConsole()
let status = 0
try {
	await cp(folder, copy, { recursive: true })
	await check(copy, Number(version))
	say('verdict', `Baileys ${version} takes this folder and goes on with it`)
} catch (error) {
	process.stderr.write(`baileys-check: ${error.message}\n`)
	status = 1
} finally {
	await rm(copy, { recursive: true })
}
process.exit(status)
