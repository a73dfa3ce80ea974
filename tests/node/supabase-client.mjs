// A supabase-js client from the environment that keeps a list of its requests and can be told to fail.
import { createClient } from '@supabase/supabase-js'

const NO_ANSWER = () => {
	throw new TypeError('fetch failed')
}

// What a request can meet on its way. `send` really performs it. A fault may be { name: 'json', status, body } too.
const FAULTS = {
	'lost-request': NO_ANSWER,
	'lost-answer': async send => {
		await send()
		NO_ANSWER()
	},
	'pass': send => send(),
	'twice': async send => {
		await send()
		return send()
	},
	'empty-404': () => new Response('', { status: 404 }),
	'list-404': () => new Response('[]', { status: 404 }),
	'not-json': () => new Response('<html>', { status: 200 }),
	'hang': (_, { signal }) =>
		new Promise((_, reject) => signal.addEventListener('abort', () => reject(signal.reason))),
	'after-loss': async (send, { leaseLost }) => {
		await leaseLost
		return send()
	}
}

const answer = ({ name, status, body }, send, init) => {
	if (/^\d+$/.test(name)) return new Response('{"message":"made up by the test"}', { status: Number(name) })
	if (name === 'json') return Response.json(body, { status })
	return FAULTS[name](send, init)
}

export const makeClient = leaseLost => {
	const requests = []
	const faults = []
	const waiting = []
	const sent = []
	const replay = () => Promise.all(sent.map(async ({ path, send }) => [path, (await send()).status]))
	const faultsMet = () => new Promise(resolve => (faults.length ? waiting.push(resolve) : resolve()))
	const watchedFetch = async (input, init) => {
		const path = new URL(input).pathname.split('/rest/v1/')[1]
		const headers = Object.fromEntries([...new Headers(init.headers)].filter(([name]) => name.startsWith('x-whatsapp')))
		const body = init.body ? JSON.parse(init.body) : undefined
		const rows = Array.isArray(body) ? body.length : undefined
		requests.push({ method: init.method, path, headers, rows, request: body?.p_request })
		const index = faults.findIndex(fault => path === fault.path)
		const send = () => fetch(input, init)
		if (init.method !== 'GET') sent.push({ path, send: () => fetch(input, { ...init, signal: undefined }) })
		if (index < 0) return send()
		const [fault] = faults.splice(index, 1)
		if (!faults.length) waiting.splice(0).forEach(resolve => resolve())
		return answer(fault, send, { ...init, leaseLost })
	}
	const client = createClient(process.env.SUPABASE_URL, process.env.SUPABASE_SERVICE_ROLE_KEY, {
		auth: { persistSession: false, autoRefreshToken: false },
		global: { fetch: watchedFetch },
		realtime: { transport: class {} } // Node 20 has no WebSocket, and none is opened here
	})
	return { client, requests, faults, faultsMet, replay }
}
