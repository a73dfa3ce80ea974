// node compare-folders.mjs FOLDER OTHER: are two auth folders the same to Baileys 7 and to 6.7?
//
// Every file is read as useMultiFileAuthState reads it. Prints
// {"files": how many were compared, "differences": [{"file", "why"}]}; never a value.
import { readdir, readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { isDeepStrictEqual } from 'node:util'
import { loadBaileys } from './baileys.mjs'

const [folder, other] = process.argv.slice(2)
const versions = await Promise.all([7, 6].map(async version => ({ version, ...(await loadBaileys(version)) })))

const asBaileysReads = ({ BufferJSON, proto }, file, text) => {
	const value = JSON.parse(text, BufferJSON.reviver)
	return file.startsWith('app-state-sync-key-') ? proto.Message.AppStateSyncKeyData.fromObject(value) : value
}

const differsIn = (baileys, file, texts) => {
	try {
		const [left, right] = texts.map(text => asBaileysReads(baileys, file, text))
		return isDeepStrictEqual(left, right) ? null : `another value for Baileys ${baileys.version}`
	} catch {
		return `Baileys ${baileys.version} cannot read it`
	}
}

const compare = async file => {
	const texts = await Promise.all([folder, other].map(place => readFile(join(place, file), 'utf8').catch(() => null)))
	if (texts.includes(null)) return [{ file, why: 'in one folder only' }]
	return versions.map(baileys => ({ file, why: differsIn(baileys, file, texts) })).filter(({ why }) => why)
}

const files = [...new Set((await Promise.all([readdir(folder), readdir(other)])).flat())].sort()
const differences = (await Promise.all(files.map(compare))).flat()
console.log(JSON.stringify({ files: files.length, differences }))
