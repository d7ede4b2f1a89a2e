// Passkeys in the browser: a ceremony of the desk, and the device's answer to it.

import { post } from './web/api.js';

/** Signs what the desk asks for at `path`; the ceremony and the credential, for a body. */
export async function sign(path) {
	const asked = await post(path, {});
	const publicKey = PublicKeyCredential.parseRequestOptionsFromJSON(asked.publicKey);
	const credential = await navigator.credentials.get({ publicKey });
	return { ceremony: asked.ceremony, credential: credential.toJSON() };
}

/** Makes a passkey with a whole code. */
export async function make(code, asked) {
	const publicKey = PublicKeyCredential.parseCreationOptionsFromJSON(asked.publicKey);
	const credential = await navigator.credentials.create({ publicKey });
	return post('/enrol', { code, ceremony: asked.ceremony, credential: credential.toJSON() });
}
