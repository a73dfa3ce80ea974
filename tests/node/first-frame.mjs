// Real makeWASocket connects to a server of our own. Gives the first bytes that arrive there.
import { once } from 'node:events'
import { WebSocketServer } from 'ws'
import { silent } from './baileys.mjs'

export const firstFrame = async ({ default: makeWASocket, makeCacheableSignalKeyStore }, { creds, keys }) => {
	const server = new WebSocketServer({ host: '127.0.0.1', port: 0 })
	await once(server, 'listening')
	const sock = makeWASocket({
		auth: { creds, keys: makeCacheableSignalKeyStore(keys, silent) },
		waWebSocketUrl: `ws://127.0.0.1:${server.address().port}`,
		logger: silent
	})
	const crash = new Promise((_, reject) => {
		sock.ev.on('connection.update', ({ lastDisconnect }) => lastDisconnect && reject(lastDisconnect.error))
	})
	try {
		const received = once(server, 'connection').then(([connection]) => once(connection, 'message'))
		const [frame] = await Promise.race([received, crash])
		return frame.toString('base64')
	} finally {
		server.clients.forEach(client => client.terminate())
		server.close()
	}
}
