// Every flow of the unmodified @azure/attestation client; one JSON object with what came of each on standard output.
const fs = require("node:fs");
const { AttestationClient, AttestationAdministrationClient, KnownAttestationType } = require("@azure/attestation");

const given = JSON.parse(fs.readFileSync(0, "utf8"));
const bytes = (text) => Buffer.from(text, "base64");
const credential = { getToken: async () => ({ token: given.bearer, expiresOnTimestamp: Date.now() + 3600_000 }) };
const open = new AttestationClient(given.url);
const admin = (tenant) => new AttestationAdministrationClient(given.url + tenant, credential);
const SGX = KnownAttestationType.SgxEnclave;
const { first, second, curve } = given.signers;

const flows = {
  sgxBinary: async () => {
    const { body } = await open.attestSgxEnclave(bytes(given.quote), { runTimeData: bytes(given.data) });
    return { mrEnclave: body.mrEnclave, held: Buffer.from(body.enclaveHeldData).toString("base64"), issuer: body.issuer };
  },
  sgxJson: async () => {
    const { body } = await open.attestSgxEnclave(bytes(given.quote), { runTimeJson: bytes(given.data) });
    return { runtime: body.runTimeClaims };
  },
  openEnclave: async () => {
    const { body } = await open.attestOpenEnclave(bytes(given.report), { runTimeData: bytes(given.data) });
    return { quoteHash: body.sgxCollateral.quotehash };
  },
  openEnclaveJson: async () => {
    const { body } = await open.attestOpenEnclave(bytes(given.report), { runTimeJson: bytes(given.data) });
    return { runtime: body.runTimeClaims };
  },
  issuers: async () => {
    const issuers = [];
    for (const tenant of ["/isolated", "/shared"]) {
      const client = new AttestationClient(given.url + tenant);
      issuers.push((await client.attestSgxEnclave(bytes(given.quote))).body.issuer);
      issuers.push((await client.attestOpenEnclave(bytes(given.report))).body.issuer);
    }
    return issuers;
  },
  initTime: async () => {
    const { body } = await open.attestSgxEnclave(bytes(given.kssQuote), { initTimeJson: bytes(given.data) });
    return { initTime: body.initTimeClaims };
  },
  draft: async () => {
    const { token } = await open.attestSgxEnclave(bytes(given.quote), { draftPolicyForAttestation: given.policy });
    return { algorithm: token.algorithm };
  },
  signers: async () => ({ count: (await open.getAttestationSigners()).length }),
  metadata: async () => ({ issuer: (await open.getOpenIdMetadata()).issuer }),
  tpm: async () => open.attestTpm(JSON.stringify({ payload: { type: "aikcert" } })),
  setUnsigned: async () => ({ resolution: (await admin("").setPolicy(SGX, given.policy)).body.policyResolution }),
  getPolicy: async () => ({ policy: (await admin("").getPolicy(SGX)).body }),
  setSigned: async () => {
    const { body } = await admin("").setPolicy(SGX, given.policy, { privateKey: first.key, certificate: first.certificate });
    return { resolution: body.policyResolution, signer: body.policySigner.certificates.length };
  },
  setSignedByCurve: async () => {
    const { body } = await admin("").setPolicy(SGX, given.policy, { privateKey: curve.key, certificate: curve.certificate });
    return { resolution: body.policyResolution };
  },
  resetPolicy: async () => ({ resolution: (await admin("").resetPolicy(SGX)).body.policyResolution }),
  getDefaultPolicy: async () => ({ policy: (await admin("").getPolicy(SGX)).body }),
  isolatedUnsigned: async () => admin("/isolated").setPolicy(SGX, given.policy),
  isolatedSigned: async () => {
    const keys = { privateKey: first.key, certificate: first.certificate };
    return { resolution: (await admin("/isolated").setPolicy(SGX, given.policy, keys)).body.policyResolution };
  },
  isolatedReset: async () => {
    const keys = { privateKey: first.key, certificate: first.certificate };
    return { resolution: (await admin("/isolated").resetPolicy(SGX, keys)).body.policyResolution };
  },
  addCertificate: async () => {
    const { body } = await admin("/isolated").addPolicyManagementCertificate(second.certificate, first.key, first.certificate);
    return { resolution: body.certificateResolution };
  },
  listCertificates: async () => ({ count: (await admin("/isolated").getPolicyManagementCertificates()).body.length }),
  removeCertificate: async () => {
    const { body } = await admin("/isolated").removePolicyManagementCertificate(second.certificate, first.key, first.certificate);
    return { resolution: body.certificateResolution };
  },
  sharedSet: async () => admin("/shared").setPolicy(SGX, given.policy),
  sharedGet: async () => ({ policy: (await admin("/shared").getPolicy(SGX)).body }),
};

(async () => {
  const outcomes = {};
  for (const [name, flow] of Object.entries(flows)) {
    try {
      outcomes[name] = await flow();
    } catch (error) {
      outcomes[name] = { error: error.code ?? null, status: error.statusCode ?? null, message: String(error.message ?? error) };
    }
  }
  console.log(JSON.stringify(outcomes));
})();
