// Companies opened by examples/node for another language to drive: a JSON command a line on stdin, a JSON answer a
// line on stdout. Commands run at the same time; an answer repeats the command's id.
//
//     {"id": 1, "op": "open", "auth": 7, "url", "key", "company", "lease", "leaseTtl", "patience", "tag", "encryption"}
//     {"id": 2, "op": "get" | "set" | "clear" | "save" | "close", "auth": 7, …}
//
// Answers: {"id", "result"} or {"id", "error": {"name", "message", "code", "certain"}}.
import { createInterface } from 'node:readline'
import { createRequire } from 'node:module'
import { useSupabaseAuthState } from '../examples/node/use-supabase-auth-state.js'

const fromExample = createRequire(new URL('../examples/node/use-supabase-auth-state.js', import.meta.url))
const { createClient } = fromExample('@supabase/supabase-js')
for (const name of ['log', 'info', 'warn', 'error', 'debug']) console[name] = () => {}
// Creds that are valid and cheap to make: key pairs are not what is tested here.
const { BufferJSON, initAuthCreds, proto } = await import(fromExample.resolve('baileys'))
const creds = initAuthCreds()
const auths = new Map()

const makeClient = (url, key, told) =>
	createClient(url, key, {
		auth: { persistSession: false, autoRefreshToken: false },
		global: {
			fetch: async (input, init) => {
				const response = await fetch(input, init)
				// The token is private to the auth state; its lease's answer names it.
				if (String(input).endsWith('/rpc/acquire_whatsapp_lease')) {
					const found = await response.clone().json().catch(() => null)
					if (found?.token) told.token = found.token
				}
				return response
			}
		},
		realtime: { transport: class {} } // Node 20 has no WebSocket, and none is opened here
	})

const open = async ({ auth: name, url, key, company, lease, leaseTtl, patience, tag, encryption }) => {
	const told = { token: null }
	const fresh = () => ({ ...creds, nextPreKeyId: tag })
	const auth = await useSupabaseAuthState(company, {
		client: makeClient(url, key, told),
		baileys: { BufferJSON, initAuthCreds: fresh, proto },
		lease,
		leaseTtl,
		encryption: encryption ?? undefined,
		timeout: patience * 1000,
		giveUpAfter: patience * 500
	})
	auths.set(name, auth)
	return { creds: auth.state.creds.nextPreKeyId, token: told.token }
}

const withAuth = {
	get: ({ state }, { type, ids }) => state.keys.get(type, ids),
	set: ({ state }, { data }) => state.keys.set(data),
	clear: ({ state }) => state.keys.clear(),
	save: ({ state, saveCreds }, { tag }) => {
		state.creds.nextPreKeyId = tag
		return saveCreds()
	},
	close: async (auth, { auth: name }) => {
		auths.delete(name)
		await auth.close()
	}
}

const answer = async ({ id, op, ...command }) => {
	try {
		const run = op === 'open' ? open(command) : withAuth[op](auths.get(command.auth), command)
		return { id, result: (await run) ?? null }
	} catch ({ name, message, code, certain }) {
		return { id, error: { name, message, code, certain } }
	}
}

for await (const line of createInterface({ input: process.stdin })) {
	answer(JSON.parse(line)).then(answered => process.stdout.write(JSON.stringify(answered) + '\n'))
}
process.exit() // supabase-js keeps timers; whoever ends our stdin is done with us
