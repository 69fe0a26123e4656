from bastide.sgx.keys import KeyName, KeyPolicy, KeyRequest
from bastide.sim.epc import BLOCK
from support.enclaves import cpu, image, started


def test_the_heap_is_resident_after_loading_where_the_epc_is_large_enough() -> None:
    assert started(cpu(), image(heap_pages=100)).touch_heap() == 0


def test_two_enclaves_that_share_too_little_epc_push_each_other_out() -> None:
    processor = cpu(pages=2 * BLOCK)
    one, two = started(processor, image(heap_pages=400)), started(processor, image(b"two", heap_pages=400))
    assert one.touch_heap() > 0
    assert two.touch_heap() == 400
    assert one.touch_heap() == 400


def test_only_the_heap_is_touched() -> None:
    processor = cpu()
    inside = started(processor, image(heap_pages=3))
    heap = range(inside.heap_first, inside.heap_first + inside.heap_pages)
    entries = {processor.epc.entry(inside.eid, page) for page in heap}
    assert [(entry.first, entry.count) for entry in entries if entry] == [(heap.start, 3)]


def test_an_enclave_without_heap_touches_nothing() -> None:
    assert started(cpu(), image(heap_pages=0)).touch_heap() == 0


def test_reports_and_keys_are_those_of_this_enclave() -> None:
    processor = cpu()
    one, two = started(processor, image()), started(processor, image(b"two"))
    target = processor.identity(two.eid).target_info()
    assert one.report(target, bytes(64)).body.mr_enclave == processor.identity(one.eid).mr_enclave
    request = KeyRequest(key_name=KeyName.SEAL, key_policy=KeyPolicy.MRENCLAVE)
    assert one.get_key(request) == processor.egetkey(one.eid, request) != two.get_key(request)


def test_a_sealing_key_is_found_again_by_its_request() -> None:
    request = started(cpu(), image()).seal_key_request()
    again = KeyRequest.parse(request.build())
    assert started(cpu(), image()).get_key(request) == started(cpu(), image()).get_key(again)
