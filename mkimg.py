import json,hashlib,gzip,io,tarfile,urllib.request,sys,subprocess
BASE=sys.argv[1] if len(sys.argv)>1 else 'http://127.0.0.1:26000'
def req(m,u,b=None,h={}):
    r=urllib.request.Request(u if u.startswith('http') else BASE+u,data=b,method=m,headers=h)
    try:
        with urllib.request.urlopen(r) as x: return x.status,dict(x.headers),x.read()
    except urllib.error.HTTPError as e: return e.code,dict(e.headers),e.read()
def dig(b,a='sha256'): return a+':'+hashlib.new(a,b).hexdigest()
def blob(repo,b,a='sha256'):
    d=dig(b,a)
    s,h,_=req('POST',f'/v2/{repo}/blobs/uploads/')
    loc=h['Location']; loc+=('&' if '?' in loc else '?')+'digest='+d
    s,h,x=req('PUT',loc,b,{'content-type':'application/octet-stream'})
    assert s==201,(s,x)
    return d
def man(repo,tag,m,mt,raw=None):
    b=raw if raw is not None else json.dumps(m).encode()
    s,h,x=req('PUT',f'/v2/{repo}/manifests/{tag}',b,{'content-type':mt})
    print(repo,tag,s,x[:200] if s>=300 else '',len(b),dig(b)[:20])
    return {"mediaType":mt,"digest":dig(b),"size":len(b)}
def tar(files):
    o=io.BytesIO(); t=tarfile.open(fileobj=o,mode='w')
    for n,c in files:
        i=tarfile.TarInfo(n); i.size=len(c); t.addfile(i,io.BytesIO(c))
    t.close(); return o.getvalue()
OCI='application/vnd.oci.image.manifest.v1+json'; IDX='application/vnd.oci.image.index.v1+json'
CFG='application/vnd.oci.image.config.v1+json'; L='application/vnd.oci.image.layer.v1.tar'
DM='application/vnd.docker.distribution.manifest.v2+json'; DL='application/vnd.docker.distribution.manifest.list.v2+json'
def image(repo,tag,layers,comp='gzip',mt=OCI,cfgx={},lmt=None,cmt=None,plat=('linux','amd64'),alg='sha256',annot=None):
    ds=[];ls=[]
    for l in layers:
        ds.append(dig(l))
        if comp=='gzip': c=gzip.compress(l,mtime=0); t=L+'+gzip'
        elif comp=='zstd': c=subprocess.run(['zstd','-q','-c'],input=l,capture_output=True).stdout; t=L+'+zstd'
        else: c=l; t=L
        ls.append({"mediaType":lmt or t,"digest":blob(repo,c,alg),"size":len(c)})
    cfg=json.dumps({"architecture":plat[1],"os":plat[0],"config":{"Cmd":["sh"]},"rootfs":{"type":"layers","diff_ids":ds},**cfgx}).encode()
    m={"schemaVersion":2,"mediaType":mt,"config":{"mediaType":cmt or CFG,"digest":blob(repo,cfg,alg),"size":len(cfg)},"layers":ls}
    if annot: m['annotations']=annot
    return man(repo,tag,m,mt)
if __name__=='__main__':
    bb=tar([('bin/busybox',b'x'*1000)])
    image('odd/many','1',[tar([(f'f{i}',str(i).encode())]) for i in range(100)])
    image('odd/empty','1',[tar([])]*3)
    image('odd/zero','1',[b'\0'*1024, tar([('a',b'a')])])
    image('odd/zstd','1',[tar([('a',b'a'*5000)])],comp='zstd')
    image('odd/plain','1',[tar([('a',b'a'*5000)])],comp='none')
    image('odd/nolayers','1',[])
    image('odd/docker','1',[bb],mt=DM,cmt='application/vnd.docker.container.image.v1+json',lmt='application/vnd.docker.image.rootfs.diff.tar.gzip')
    image('odd/huge','1',[bb],annot={'x':'y'*(4*1024*1024-1200)})
    image('odd/toohuge','1',[bb],annot={'x':'y'*(4*1024*1024+10)})
    image('odd/sha512','1',[bb],alg='sha512')
    # helm
    c=b'{"name":"chart","version":"0.1.0","apiVersion":"v2"}'; l=gzip.compress(tar([('chart/Chart.yaml',b'name: chart')]))
    man('odd/helm','1',{"schemaVersion":2,"mediaType":OCI,"config":{"mediaType":"application/vnd.cncf.helm.config.v1+json","digest":blob('odd/helm',c),"size":len(c)},"layers":[{"mediaType":"application/vnd.cncf.helm.chart.content.v1.tar+gzip","digest":blob('odd/helm',l),"size":len(l)}]},OCI)
    # cosign
    p=b'{"critical":{}}'; c=json.dumps({"architecture":"","os":"","config":{},"rootfs":{"type":"layers","diff_ids":[dig(p)]}}).encode()
    man('odd/cosign','sha256-abc.sig',{"schemaVersion":2,"mediaType":OCI,"config":{"mediaType":CFG,"digest":blob('odd/cosign',c),"size":len(c)},"layers":[{"mediaType":"application/vnd.dev.cosign.simplesigning.v1+json","digest":blob('odd/cosign',p),"size":len(p),"annotations":{"dev.cosignproject.cosign/signature":"x"}}]},OCI)
    # oras empty config artifact
    e=b'{}'; 
    man('odd/artifact','1',{"schemaVersion":2,"mediaType":OCI,"artifactType":"application/vnd.example+type","config":{"mediaType":"application/vnd.oci.empty.v1+json","digest":blob('odd/artifact',e),"size":2},"layers":[{"mediaType":"text/plain","digest":blob('odd/artifact',p),"size":len(p)}]},OCI)
    # index with attestation
    a=image('odd/attest','amd64',[bb]); b=image('odd/attest','arm64',[bb],plat=('linux','arm64'))
    st=b'{"_type":"https://in-toto.io/Statement/v0.1"}'; cc=json.dumps({"architecture":"unknown","os":"unknown","config":{},"rootfs":{"type":"layers","diff_ids":[dig(st)]}}).encode()
    at=man('odd/attest','att',{"schemaVersion":2,"mediaType":OCI,"config":{"mediaType":CFG,"digest":blob('odd/attest',cc),"size":len(cc)},"layers":[{"mediaType":"application/vnd.in-toto+json","digest":blob('odd/attest',st),"size":len(st),"annotations":{"in-toto.io/predicate-type":"https://slsa.dev/provenance/v0.2"}}]},OCI)
    P=lambda d,o,ar,**k:{**d,"platform":{"os":o,"architecture":ar},**k}
    ix={"schemaVersion":2,"mediaType":IDX,"manifests":[P(a,'linux','amd64'),P(b,'linux','arm64'),P(at,'unknown','unknown',annotations={"vnd.docker.reference.type":"attestation-manifest","vnd.docker.reference.digest":a['digest']})]}
    i=man('odd/attest','1',ix,IDX)
    n={"schemaVersion":2,"mediaType":IDX,"manifests":[{**i}]}
    n1=man('odd/attest','nested',n,IDX)
    for k in range(2,7): n1=man('odd/attest',f'nested{k}',{"schemaVersion":2,"mediaType":IDX,"manifests":[n1]},IDX)
    man('odd/attest','onlyatt',{"schemaVersion":2,"mediaType":IDX,"manifests":[P(at,'unknown','unknown')]},IDX)
    man('odd/attest','emptyindex',{"schemaVersion":2,"mediaType":IDX,"manifests":[]},IDX)
    # no mediaType in document
    man('odd/attest','nomt',{"schemaVersion":2,"manifests":[P(a,'linux','amd64')]},IDX)
    # docker list
    d=image('odd/dlist','amd64',[bb],mt=DM,cmt='application/vnd.docker.container.image.v1+json',lmt='application/vnd.docker.image.rootfs.diff.tar.gzip')
    man('odd/dlist','1',{"schemaVersion":2,"mediaType":DL,"manifests":[P(d,'linux','amd64')]},DL)
    # foreign layer
    l=gzip.compress(bb); c=json.dumps({"architecture":"amd64","os":"linux","config":{},"rootfs":{"type":"layers","diff_ids":[dig(bb)]}}).encode()
    fk=gzip.compress(bb+b'\0'*512)
    man('odd/foreign','1',{"schemaVersion":2,"mediaType":DM,"config":{"mediaType":"application/vnd.docker.container.image.v1+json","digest":blob('odd/foreign',c),"size":len(c)},"layers":[{"mediaType":"application/vnd.docker.image.rootfs.foreign.diff.tar.gzip","digest":dig(fk),"size":len(fk),"urls":["http://127.0.0.1:26099/layer"]}]},DM)
    # schema1
    s1={"schemaVersion":1,"name":"odd/schema1","tag":"1","architecture":"amd64","fsLayers":[{"blobSum":blob('odd/schema1',l)}],"history":[{"v1Compatibility":"{}"}]}
    man('odd/schema1','1',s1,'application/vnd.docker.distribution.manifest.v1+json')
