// The frames a real socket sends first: the hello, and after the handshake the encrypted login.
import { silent } from './baileys.mjs'

export const encodeFrames = async (baileys, creds) => {
	const { Curve, makeNoiseHandler, NOISE_WA_HEADER, proto } = baileys
	const noise = makeNoiseHandler({
		keyPair: creds.noiseKey,
		NOISE_HEADER: NOISE_WA_HEADER,
		logger: silent,
		routingInfo: creds.routingInfo
	})
	const clientHello = proto.HandshakeMessage.encode({ clientHello: { ephemeral: creds.noiseKey.public } }).finish()
	const hello = noise.encodeFrame(clientHello)

	const server = Curve.generateKeyPair()
	await noise.mixIntoKey(Curve.sharedKey(creds.noiseKey.private, server.public))
	const sealedNoiseKey = noise.encrypt(creds.noiseKey.public)
	await noise.finishInit()
	const login = noise.encodeFrame(Buffer.concat([sealedNoiseKey, creds.signedIdentityKey.public]))
	return { hello: hello.toString('base64'), login: login.toString('base64') }
}
