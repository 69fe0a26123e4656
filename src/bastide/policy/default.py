"""The policy that stands where nobody has written one."""

DEFAULT_SGX_POLICY = """version=1.1;
// Admits every enclave that quote verification admits, and repeats six claims under their older names.
// Azure's own default also selects an Azure collateral baseline; which collateral counts is not a rule's choice here.
authorizationrules {
    => permit();
};
issuancerules {
    c:[type == "x-ms-attestation-type"] => issue(type = "tee", value = c.value);
    c:[type == "x-ms-sgx-is-debuggable"] => issue(type = "is-debuggable", value = c.value);
    c:[type == "x-ms-sgx-mrenclave"] => issue(type = "sgx-mrenclave", value = c.value);
    c:[type == "x-ms-sgx-mrsigner"] => issue(type = "sgx-mrsigner", value = c.value);
    c:[type == "x-ms-sgx-product-id"] => issue(type = "product-id", value = c.value);
    c:[type == "x-ms-sgx-svn"] => issue(type = "svn", value = c.value);
};
"""
"""Our own text of the default for SGX; its outcome equals that of Azure's version 1.1 default.

Source: reference attestation-service.md section 3, "Default SGX policy today".
"""
