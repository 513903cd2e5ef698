def test_it_works(app, archive, sources, as_user) -> None:
    import time
    ana = as_user("ana")
    for a in ("/sources", "/sources?ra=0&dec=20&radius=1&unit=arcmin", "/sources?state=failed", "/sources?state=detected", f"/source/{sources.event}", f"/source/{sources.empty}", f"/source/{sources.failed}"):
        t=time.time()
        r = ana.get(a)
        print(a, r.status_code, time.time()-t, len(r.text))
        assert r.status_code == 200
    assert 0
