// node single-file.mjs FOLDER FILE < {"type": ["id", …]}: the keys of an auth folder, as Baileys 5 kept them in a file.
//
// Values are read by useMultiFileAuthState of Baileys 6.7 and written as useSingleFileAuthState of Baileys 5.0 did:
// by its KEY_MAP, with a sender-key as what SenderKeyRecord.serialize gives, and a deleted key as null.
import { writeFile } from 'node:fs/promises'
import { createRequire } from 'node:module'
import { dirname, join } from 'node:path'
import { json } from 'node:stream/consumers'
import { loadBaileys } from './baileys.mjs'

const KEY_MAP = {
	'pre-key': 'preKeys',
	session: 'sessions',
	'sender-key': 'senderKeys',
	'app-state-sync-key': 'appStateSyncKeys',
	'app-state-sync-version': 'appStateVersions',
	'sender-key-memory': 'senderKeyMemory'
}

const [folder, file] = process.argv.slice(2)
const ids = await json(process.stdin)
const { useMultiFileAuthState, BufferJSON } = await loadBaileys(6)
const library = dirname(createRequire(import.meta.url).resolve('baileys6'))
const { SenderKeyRecord } = await import(join(library, 'Signal', 'Group', 'sender-key-record.js'))

const { state } = await useMultiFileAuthState(folder)
const keys = {}
for (const [type, wanted] of Object.entries(ids)) {
	const found = await state.keys.get(type, wanted)
	keys[KEY_MAP[type]] = Object.fromEntries(
		wanted.map(id => [id, type === 'sender-key' ? SenderKeyRecord.deserialize(found[id]).serialize() : found[id]])
	)
}
keys.preKeys['999'] = null
await writeFile(file, JSON.stringify({ creds: state.creds, keys }, BufferJSON.replacer, 2))
