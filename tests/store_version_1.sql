-- A store of version 1, as the code of commit a067a9c made it.
BEGIN TRANSACTION;
CREATE TABLE about (
	"key" VARCHAR NOT NULL, 
	value VARCHAR, 
	PRIMARY KEY ("key")
);
INSERT INTO "about" VALUES('schema_version','1');
CREATE TABLE artifacts (
	id INTEGER NOT NULL, 
	name VARCHAR NOT NULL, 
	environment VARCHAR NOT NULL, 
	hash VARCHAR NOT NULL, 
	kind VARCHAR NOT NULL, 
	run VARCHAR, 
	standing VARCHAR NOT NULL, 
	recorded VARCHAR NOT NULL, 
	PRIMARY KEY (id)
);
INSERT INTO "artifacts" VALUES(1,'make.rows','development','5d8312586e2787eb7d8fb491fff10f51cb571b25c32fcb7c113a43f07fc14723','json','20261125-025523-dad4','committed','2026-11-25T02:55:26.023Z');
INSERT INTO "artifacts" VALUES(2,'use.out','development','5d8312586e2787eb7d8fb491fff10f51cb571b25c32fcb7c113a43f07fc14723','json','20261125-025523-dad4','committed','2026-11-25T02:55:27.047Z');
CREATE TABLE decisions (
	number INTEGER NOT NULL, 
	id VARCHAR NOT NULL, 
	queue VARCHAR NOT NULL, 
	item VARCHAR NOT NULL, 
	value JSON, 
	person VARCHAR NOT NULL, 
	reason VARCHAR, 
	recorded_at VARCHAR NOT NULL, 
	PRIMARY KEY (number), 
	UNIQUE (id)
);
INSERT INTO "decisions" VALUES(1,'66b1eb9fe5ba48f29e1fdbc651ee11f8','labeling','2013-01-01-UA-1545-EWR-0515','"late"','Kim','diverted','2026-11-25T02:55:23.147Z');
CREATE TABLE runs (
	run VARCHAR NOT NULL, 
	environment VARCHAR NOT NULL, 
	status VARCHAR NOT NULL, 
	started VARCHAR NOT NULL, 
	ended VARCHAR, 
	command JSON, 
	git JSON, 
	versions JSON, 
	process JSON, 
	PRIMARY KEY (run)
);
INSERT INTO "runs" VALUES('20261125-025523-dad4','development','done','2026-11-25T02:55:23.509Z','2026-11-25T02:55:27.048Z','{"stages": [], "parameters": {}, "sample": null, "fresh": false}','null','{"python": "3.11.7", "platform": "Linux", "mlops_nb": "0.1.0"}','{"host": "laptop", "pid": 12132, "python": "/usr/bin/python3"}');
CREATE TABLE stage_runs (
	run VARCHAR NOT NULL, 
	stage VARCHAR NOT NULL, 
	position INTEGER NOT NULL, 
	environment VARCHAR NOT NULL, 
	status VARCHAR NOT NULL, 
	reason VARCHAR, 
	started VARCHAR, 
	ended VARCHAR, 
	seconds FLOAT, 
	reused_from VARCHAR, 
	fingerprint VARCHAR, 
	ingredients JSON, 
	parameters JSON, 
	inputs JSON, 
	outputs JSON, 
	notebook VARCHAR, 
	error JSON, 
	PRIMARY KEY (run, stage)
);
INSERT INTO "stage_runs" VALUES('20261125-025523-dad4','make',0,'development','done','no result yet','2026-11-25T02:55:23.523Z','2026-11-25T02:55:26.023Z',1.03,NULL,'55e117de89f277eb028a84553b3b6e54ef8143189caaacfe4365ded13ab435d7','{"code": ["96edff383216d3b86757a0875917393c8d2d000edb38d7500b5327d0608a9be5", "c5ca2f8ccf8e618d1c243079797d19ce622bd8873cf7853df06840c1ff0afbb2"], "modules": {}, "parameters": {"count": 3}, "files": {}, "inputs": {}, "libraries": {"ipython": "9.18.1", "annotated-types": "0.8.0", "matplotlib": "3.11.2", "numpy": "2.4.6", "pandas": "3.1.1", "pyarrow": "26.0.1", "pydantic": "2.14.3", "skops": "0.16.0", "SQLAlchemy": "2.1.9"}, "python": "3.11"}','{"count": 3}','{}','{"make.rows": "5d8312586e2787eb7d8fb491fff10f51cb571b25c32fcb7c113a43f07fc14723"}','/home/kim/scratch/.mlops/runs/20261125-025523-dad4/01_make.ipynb','null');
INSERT INTO "stage_runs" VALUES('20261125-025523-dad4','use',1,'development','done','no result yet','2026-11-25T02:55:26.034Z','2026-11-25T02:55:27.047Z',1.004,NULL,'cef118c79f880c2088cc6e18b90fca28dac32f7dd8e62ffcce066dbb11468e8a','{"code": ["96edff383216d3b86757a0875917393c8d2d000edb38d7500b5327d0608a9be5", "0d0ad343178d3a1ba0123cca943e407281904284e6fed8473f10afb31a05badc"], "modules": {}, "parameters": {}, "files": {}, "inputs": {"rows": "5d8312586e2787eb7d8fb491fff10f51cb571b25c32fcb7c113a43f07fc14723"}, "libraries": {"ipython": "9.18.1", "annotated-types": "0.8.0", "matplotlib": "3.11.2", "numpy": "2.4.6", "pandas": "3.1.1", "pyarrow": "26.0.1", "pydantic": "2.14.3", "skops": "0.16.0", "SQLAlchemy": "2.1.9"}, "python": "3.11"}','{}','{"rows": "make.rows@5d8312586e2787eb"}','{"use.out": "5d8312586e2787eb7d8fb491fff10f51cb571b25c32fcb7c113a43f07fc14723"}','/home/kim/scratch/.mlops/runs/20261125-025523-dad4/02_use.ipynb','null');
CREATE INDEX stage_runs_fingerprint ON stage_runs (fingerprint);
CREATE INDEX artifacts_name ON artifacts (name, environment);
CREATE INDEX decisions_queue ON decisions (queue);
COMMIT;
