// Real Baileys' stores, measured from within: one JSON command a line on stdin, one answer a line on stdout.
//
//     open     store, folder, cached       the real useMultiFileAuthState, behind the real cacheable store or not
//     prepare  store, number, kind, variants   revives the values, so that a run holds the store's work alone
//     run      store, number               seconds that one run of the next variant took
import { createInterface } from 'node:readline'
import { fromDocument, loadBaileys, silenceConsole, silent } from '../../tests/node/baileys.mjs'

silenceConsole()
const baileys = await loadBaileys(7)
const stores = new Map()
const prepared = new Map()

const revive = data => {
	const revived = {}
	for (const [type, values] of Object.entries(data)) {
		revived[type] = {}
		for (const [id, value] of Object.entries(values)) {
			revived[type][id] = value === null ? null : fromDocument(baileys, value)
		}
	}
	return revived
}

const talk = async (keys, chat) => {
	for (const step of chat) {
		if (step[0] === 'get') await keys.get(step[1], step[2])
		else await keys.set(step[1])
	}
}

const coldStart = async ({ folder, wanted }) => {
	const { state } = await baileys.useMultiFileAuthState(folder)
	await Promise.all(Object.entries(wanted).map(([type, ids]) => state.keys.get(type, ids)))
}

const KINDS = {
	get: { revive: variant => variant, run: (keys, { type, ids }) => keys.get(type, ids) },
	set: { revive, run: (keys, data) => keys.set(data) },
	chats: {
		revive: chats => chats.map(chat => chat.map(step => (step[0] === 'set' ? ['set', revive(step[1])] : step))),
		run: (keys, chats) => Promise.all(chats.map(chat => talk(keys, chat)))
	},
	'cold-start': { revive: variant => variant, run: (_, variant) => coldStart(variant) }
}

const OPS = {
	open: async ({ store, folder, cached }) => {
		const { state } = await baileys.useMultiFileAuthState(folder)
		stores.set(store, cached ? baileys.makeCacheableSignalKeyStore(state.keys, silent) : state.keys)
		return null
	},
	prepare: ({ store, number, kind, variants }) => {
		const { revive: ready, run } = KINDS[kind]
		prepared.set(`${store} ${number}`, { run, variants: variants.map(ready), next: 0 })
		return null
	},
	run: async ({ store, number }) => {
		const work = prepared.get(`${store} ${number}`)
		const variant = work.variants[work.next++ % work.variants.length]
		const started = process.hrtime.bigint()
		await work.run(stores.get(store), variant)
		return Number(process.hrtime.bigint() - started) / 1e9
	}
}

for await (const line of createInterface({ input: process.stdin })) {
	const command = JSON.parse(line)
	let answer
	try {
		answer = { result: (await OPS[command.op](command)) ?? null }
	} catch (error) {
		answer = { error: String(error.stack ?? error) }
	}
	process.stdout.write(JSON.stringify(answer) + '\n')
}
